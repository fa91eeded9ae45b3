//! Bytes that a pickle writes as text: protocols 0 to 2 have no bytes type.

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Plain,
    /// Each byte as the character with this code, in UTF-8: protocols 1 and 2 of Python 3.
    Latin1,
    /// Likewise, in Python's `raw-unicode-escape`: protocol 0 of Python 3.
    Escaped,
    /// Between the quotes of a Python 2 string: protocol 0 of Python 2.
    Quoted,
}

impl Coding {
    /// The bytes that `text` stands for, up to its end or to the first character that does not stand for a
    /// byte.
    pub fn bytes(self, text: &[u8]) -> impl Iterator<Item = u8> + '_ {
        let mut rest = text;
        std::iter::from_fn(move || {
            let (byte, length) = self.first(rest)?;
            rest = &rest[length..];
            Some(byte)
        })
    }

    // The first byte that a text stands for, and its length in the text.
    fn first(self, text: &[u8]) -> Option<(u8, usize)> {
        let first = *text.first()?;
        let hexadecimal = |from: usize, to: usize| {
            let digits = std::str::from_utf8(text.get(from..to)?).ok()?;
            Some((u8::try_from(u32::from_str_radix(digits, 16).ok()?).ok()?, to))
        };
        match (self, first) {
            (Coding::Latin1, 0xc2 | 0xc3) => {
                let low = *text.get(1)?;
                (low & 0xc0 == 0x80).then_some((first << 6 | low & 0x3f, 2))
            }
            (Coding::Latin1, 0x80..) => None,
            (Coding::Escaped, b'\\') => match text.get(1) {
                Some(b'u') => hexadecimal(2, 6),
                Some(b'U') => hexadecimal(2, 10),
                _ => Some((first, 1)),
            },
            (Coding::Quoted, b'\\') => match text.get(1)? {
                b'x' => hexadecimal(2, 4),
                b'n' => Some((b'\n', 2)),
                b'r' => Some((b'\r', 2)),
                b't' => Some((b'\t', 2)),
                other => Some((*other, 2)),
            },
            _ => Some((first, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What Python 3.11's pickle and repr write of all 256 bytes is in tests/golden/interop_import; here,
    // where each begins.
    #[test]
    fn every_coding_gives_the_bytes_back() {
        let truth = [0, b'a', b'\n', b'\\', 0x7f, 0x80, 0xbf, 0xc0, 0xff];
        for (coding, text) in [
            (Coding::Plain, &truth[..]),
            (Coding::Latin1, "\0a\n\\\x7f\u{80}\u{bf}\u{c0}\u{ff}".as_bytes()),
            (
                Coding::Escaped,
                b"\\u0000a\\u000a\\u005c\x7f\x80\xbf\\u00c0\\U000000ff",
            ),
            (Coding::Quoted, b"\\x00a\\n\\\\\\x7f\\x80\xbf\\xc0\\xff"),
        ] {
            assert_eq!(coding.bytes(text).collect::<Vec<_>>(), truth, "{coding:?}");
        }
        for (coding, text) in [
            (Coding::Latin1, "a\u{100}b".as_bytes()),
            (Coding::Latin1, b"a\xc3"),
            (Coding::Latin1, b"a\xc3b"),
            (Coding::Escaped, b"a\\u0100b"),
            (Coding::Escaped, b"a\\u00"),
            (Coding::Quoted, b"a\\x"),
            (Coding::Quoted, b"a\\"),
        ] {
            assert_eq!(
                coding.bytes(text).collect::<Vec<_>>(),
                b"a",
                "{coding:?} {text:?}"
            );
        }
    }
}
