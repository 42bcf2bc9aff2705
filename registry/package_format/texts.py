"""The form in which texts are compared: two spellings of the same characters are one text."""

import re
import unicodedata

# Characters without a shape of their own: the soft hyphen, joiners, marks of the writing direction and variation
# selectors. The zero-width non-joiner is kept, because it separates parts of a word.
_INVISIBLE = re.compile("[\u00ad\u200d-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def normal_form(text: str) -> str:
    """`text` in NFKC, without invisible characters. It may be longer than `text`."""
    return text if text.isascii() else unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
