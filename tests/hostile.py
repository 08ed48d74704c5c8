"""What somebody would put into a name to lead a request, and its token, to another host."""

from __future__ import annotations

from hypothesis import strategies as st

P = "projects/acme-ml/locations/us-central1"
POISON = [
    "/", "\\", "@", "?", "#", "%", ":", ";", "&", "=", "%2f", "%2F", "%5c", "%40", "%00", "%0d%0a", "%252f", "..", ".",
    "/..", "/../", "/./", "//", "\n", "\r\n", "\t", "\x00", " ", "\x7f", "\x85", "\u2028", "\u00ad", "\u200b", "\u202e",
    "\u2024", "\u2025", "\u3002", "\uff0e", "\uff0f", "\uff20", "\uff1f", "\uff03", "\u2044", "\u2215", "\uff41",
    "\u0130", "\u212a", "\ud800", "é", "user@", "user:pw@", "@evil.com", "\\@evil.com", ".evil.com",
    "evil.com/", "//evil.com",
    "#@evil.com", "?@evil.com", ":80@evil.com", "[::1]", "[::1%25eth0]", "%eth0", "[v1.x]", "http://", "https://",
    "127.0.0.1", "169.254.169.254", "metadata.google.internal", ":8080", ":99999", "xn--", "localhost",
]  # fmt: skip
RANDOM_TEXT = st.text(max_size=40) | st.text("abz09-._:/@?#%[]\\ \n", max_size=40)


def mutations(*valid: str) -> st.SearchStrategy[str]:
    """Valid values with up to three pieces of poison put in, or pieces replaced by them."""

    @st.composite
    def mutated(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from(valid))
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(text)))
            end = draw(st.integers(start, min(len(text), start + 3)))
            text = text[:start] + draw(st.sampled_from(POISON)) + text[end:]
        return text

    return mutated() | RANDOM_TEXT


LOCATIONS = mutations("us-central1", "global", "us", "eu")
PROJECTS = mutations("acme-ml", "646763706049", "example.com:app")
JOBS = mutations("123", f"{P}/tuningJobs/123")
OPERATIONS = mutations(f"{P}/operations/1", f"{P}/tuningJobs/1/operations/1")
MODELS = mutations(
    "gemini-3.5-flash",
    f"{P}/endpoints/7",
    "publishers/google/models/gemini-3.5-flash@001",
    f"{P}/publishers/google/models/gemini-3.5-flash",
)
ENDPOINTS = mutations(
    "https://proxy.example.com",
    "http://localhost:8080",
    "127.0.0.1:8443",
    "https://[::1]:8443/prefix",
    "http://[::1]",
)
UNIVERSES = mutations("googleapis.com", "apis-berlin-build0.goog")
URIS = mutations("gs://bucket/train.jsonl", "gs://bucket/folder/a b.jsonl")
