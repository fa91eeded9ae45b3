//! The directory of a zip file whose entries are stored, not compressed: what `torch.save` writes. Our own
//! code, because entries must be slices of the mapped file, and because the `zip` crate (which writes our
//! exports) keeps several times the directory's size in memory, which a malicious directory could exploit.
//! Only names are allocated here, when they are requested.

use camtrast_common::error::{ReadResult, Refusal};

/// A zip file.
#[derive(Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    directory: &'a [u8],
}

/// One stored file.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its path in the archive.
    pub name: &'a [u8],
    method: u16,
    flags: u16,
    crc: u32,
    size: u64,
    header: u64,
}

impl<'a> Archive<'a> {
    /// Finds the directory.
    pub fn open(bytes: &'a [u8]) -> ReadResult<Self> {
        // The end record is 22 bytes and a comment of at most 65,535.
        let from = bytes.len().saturating_sub(22 + 0xffff);
        let end = (from..=bytes.len().saturating_sub(22))
            .rev()
            .find(|&i| bytes[i..].starts_with(b"PK\x05\x06"));
        let end = end.ok_or_else(damaged)?;
        let mut size = u64::from(u32_at(bytes, end + 12)?);
        let mut offset = u64::from(u32_at(bytes, end + 16)?);
        if let Some(locator) = end
            .checked_sub(20)
            .filter(|&i| bytes[i..].starts_with(b"PK\x06\x07"))
        {
            let record = index(u64_at(bytes, locator + 8)?)?;
            if !bytes
                .get(record..)
                .is_some_and(|rest| rest.starts_with(b"PK\x06\x06"))
            {
                return Err(damaged());
            }
            size = u64_at(bytes, record.saturating_add(40))?;
            offset = u64_at(bytes, record.saturating_add(48))?;
        }
        let directory = slice(bytes, offset, size)?;
        Ok(Archive { bytes, directory })
    }

    /// The entries, in the order of the directory.
    pub fn entries(&self) -> impl Iterator<Item = ReadResult<Entry<'a>>> + use<'a> {
        let mut rest = self.directory;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            match entry(rest) {
                Ok((entry, length)) => {
                    rest = &rest[length..];
                    Some(Ok(entry))
                }
                Err(refusal) => {
                    rest = &[];
                    Some(Err(refusal))
                }
            }
        })
    }

    /// The bytes of an entry, after checking its checksum, if it has one. torch does not check it, so a
    /// damaged copy loads with wrong weights.
    pub fn content(&self, entry: &Entry<'a>) -> ReadResult<&'a [u8]> {
        let name = String::from_utf8_lossy(&entry.name[..entry.name.len().min(80)])
            .escape_default()
            .to_string();
        if entry.method != 0 || entry.flags & 1 != 0 {
            let problem = format!("holds {name} compressed or encrypted, which torch.save never writes");
            return Err(Refusal::new(problem, "unpack it and save it again with torch"));
        }
        let header = index(entry.header)?;
        if !self
            .bytes
            .get(header..)
            .is_some_and(|rest| rest.starts_with(b"PK\x03\x04"))
        {
            return Err(damaged());
        }
        // The local header has its own lengths of name and extra fields (torch pads with them).
        let names = u64::from(u16_at(self.bytes, header + 26)?) + u64::from(u16_at(self.bytes, header + 28)?);
        let content = slice(self.bytes, entry.header.saturating_add(30 + names), entry.size)?;
        // torch can be set to write no checksum, which is 0.
        if entry.crc != 0 && crc32fast::hash(content) != entry.crc {
            return Err(Refusal::new(
                format!("is damaged: the checksum of {name} is wrong"),
                "copy or download it again",
            ));
        }
        Ok(content)
    }
}

fn entry(bytes: &[u8]) -> ReadResult<(Entry<'_>, usize)> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return Err(damaged());
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| u16_at(bytes, at).map(usize::from));
    let (name, extra, comment) = (name?, extra?, comment?);
    let length = 46 + name + extra + comment;
    if bytes.len() < length {
        return Err(damaged());
    }
    let mut size = u64::from(u32_at(bytes, 24)?);
    let mut header = u64::from(u32_at(bytes, 42)?);
    let packed = u32_at(bytes, 20)?;
    // The 64-bit fields of values that do not fit 32 bits, in this order.
    let mut fields = &bytes[46 + name..46 + name + extra];
    while fields.len() >= 4 {
        let (id, given) = (u16_at(fields, 0)?, usize::from(u16_at(fields, 2)?));
        let field = fields.get(4..4 + given).ok_or_else(damaged)?;
        if id == 1 {
            let mut at = 0;
            let mut wide = |value: &mut u64, is_wide: bool| {
                if is_wide {
                    *value = u64_at(field, at)?;
                    at += 8;
                }
                Ok(())
            };
            let size_is_wide = size == 0xffff_ffff;
            let header_is_wide = header == 0xffff_ffff;
            wide(&mut size, size_is_wide)?;
            wide(&mut 0, packed == u32::MAX)?;
            wide(&mut header, header_is_wide)?;
        }
        fields = &fields[4 + given..];
    }
    let [flags, method] = [u16_at(bytes, 8)?, u16_at(bytes, 10)?];
    Ok((
        Entry {
            name: &bytes[46..46 + name],
            method,
            flags,
            crc: u32_at(bytes, 16)?,
            size,
            header,
        },
        length,
    ))
}

fn slice(bytes: &[u8], offset: u64, size: u64) -> ReadResult<&[u8]> {
    let end = offset.checked_add(size).ok_or_else(damaged)?;
    bytes.get(index(offset)?..index(end)?).ok_or_else(damaged)
}

fn index(offset: u64) -> ReadResult<usize> {
    usize::try_from(offset).map_err(|_| damaged())
}

fn fixed<const N: usize>(bytes: &[u8], at: usize) -> ReadResult<[u8; N]> {
    let end = at.checked_add(N).ok_or_else(damaged)?;
    Ok(bytes
        .get(at..end)
        .ok_or_else(damaged)?
        .try_into()
        .expect("as many as asked for"))
}

fn u16_at(bytes: &[u8], at: usize) -> ReadResult<u16> {
    fixed(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> ReadResult<u32> {
    fixed(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> ReadResult<u64> {
    fixed(bytes, at).map(u64::from_le_bytes)
}

fn damaged() -> Refusal {
    Refusal::new("is a damaged zip file", "copy or download it again")
}
