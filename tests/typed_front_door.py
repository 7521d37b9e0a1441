"""What static types say of the front door. Checked by mypy, never run."""

from typing import Any

from typing_extensions import assert_type

from birnn_decode import Compared, DecodeResult, Pair, Template, compare, decode

models = Pair(object(), object())
picture, template = object(), Template.blank([], 1)

assert_type(decode(models, picture), DecodeResult)
assert_type(decode(models, picture, template), DecodeResult)
assert_type(decode(models, picture, "a _ circle", beam_size=3), DecodeResult)
assert_type(decode(models, [picture], template), list[DecodeResult])
assert_type(decode(models, [picture], [template]), list[DecodeResult])
assert_type(decode(models, picture, [template]), list[DecodeResult])
assert_type(compare(models, picture, template), Compared)
assert_type(compare(models, [picture], template), list[Compared])

wrong: dict[str, Any] = {"beam_size": 3}
decode(models, picture, beam_sise=3)  # type: ignore[call-overload]
decode(models, picture, beam_size="3")  # type: ignore[call-overload]
