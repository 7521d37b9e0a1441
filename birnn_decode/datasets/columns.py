"""The columns of answers."""

# Each column of the answers with the type of its values. The other fields of the question follow.
COLUMNS = {
    "id": "id",
    "text": "text",
    "width": "integer",
    "score": "number",
    "joint": "number",
    "log_prob_forward": "number",
    "log_prob_backward": "number",
    "pseudo_log_prob": "number",
    "hypotheses": "hypotheses",
    "stop": "text",
    "rounds": "integer",
    "rows": "integer",
    "proved": "flag",
    "upper_bound": "number",
    "signature": "text",
    "error": "text",
}
OF_HYPOTHESIS = {
    "text": "text",
    "width": "integer",
    "tokens": "integers",
    "score": "number",
    "joint": "number",
    "log_prob_forward": "number",
    "log_prob_backward": "number",
    "pseudo_log_prob": "number",
    "broken": "texts",
}
