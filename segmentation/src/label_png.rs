//! A fast reader of the PNGs that label images are: one sample per pixel, at most 8 bits, not interlaced.
//!
//! Unpacked pixels come in runs: a filtered row is mostly zeros, which are taken eight at a time. Anything
//! else than a whole file of this kind is left to the `png` crate, with its errors.

use zlib_rs::{Inflate, InflateFlush, Status};

/// Filtered rows that are unpacked at a time, in bytes: they stay in the processor's caches.
const PART: usize = 1 << 17;

/// Width, height and bits per pixel of such a file, and its unfiltered rows, put into `rows`, which start at
/// a new byte each; `None` for every other file.
pub(crate) fn decode(file: &[u8], rows: &mut Vec<u8>) -> Option<(usize, usize, usize)> {
    let mut chunks = Chunks {
        rest: file.strip_prefix(b"\x89PNG\r\n\x1a\n")?,
    };
    let (kind, header) = chunks.next()?;
    let &[
        w0,
        w1,
        w2,
        w3,
        h0,
        h1,
        h2,
        h3,
        depth @ (1 | 2 | 4 | 8),
        colour @ (0 | 3),
        0,
        0,
        0,
    ] = header
    else {
        return None;
    };
    let (width, height) = (
        u32::from_be_bytes([w0, w1, w2, w3]),
        u32::from_be_bytes([h0, h1, h2, h3]),
    );
    let (width, height, depth) = (width as usize, height as usize, usize::from(depth));
    let line = width.checked_mul(depth)?.div_ceil(8);
    let size = line.checked_mul(height)?;
    // Deflate shrinks data by at most a factor of 1032.
    if kind != *b"IHDR" || size == 0 || size / 1032 > file.len() {
        return None;
    }
    let (mut packed, mut palette) = (Vec::with_capacity(file.len()), false);
    loop {
        let (kind, data) = chunks.next()?;
        match &kind {
            b"IDAT" => packed.extend_from_slice(data),
            b"PLTE" => palette = true,
            b"IEND" => break,
            _ if kind[0].is_ascii_uppercase() => return None,
            _ => {}
        }
    }
    if colour == 3 && !palette {
        return None;
    }
    rows.resize(size, 0);
    unpack(&packed, line, rows)?;
    Some((width, height, depth))
}

/// Inflates and unfilters rows of `line` bytes; `None` unless the stream is whole and holds exactly them.
fn unpack(packed: &[u8], line: usize, rows: &mut [u8]) -> Option<()> {
    let mut inflate = Inflate::new(true, 15);
    let at_once = (PART / (line + 1)).max(1);
    let mut part = vec![0; (at_once * (line + 1)).min(rows.len() / line * (line + 1))];
    let nothing = vec![0; line];
    let mut above: &[u8] = &nothing;
    for rows in rows.chunks_mut(at_once * line) {
        let part = &mut part[..rows.len() / line * (line + 1)];
        let before = inflate.total_out();
        let input = packed.get(inflate.total_in() as usize..)?;
        inflate.decompress(input, part, InflateFlush::NoFlush).ok()?;
        if (inflate.total_out() - before) as usize != part.len() {
            return None;
        }
        for (row, filtered) in rows.chunks_exact_mut(line).zip(part.chunks_exact(line + 1)) {
            unfilter(filtered[0], &filtered[1..], above, row)?;
            above = row;
        }
    }
    // The end of the stream holds its checksum.
    let input = packed.get(inflate.total_in() as usize..)?;
    let end = inflate.decompress(input, &mut [0], InflateFlush::Finish).ok()?;
    let whole = inflate.total_out() as usize == rows.len() / line * (line + 1);
    (end == Status::StreamEnd && whole).then_some(())
}

/// One row, from its filtered bytes and the row above; samples are of one byte. `None` for an unknown filter.
fn unfilter(filter: u8, filtered: &[u8], above: &[u8], row: &mut [u8]) -> Option<()> {
    match filter {
        0 => row.copy_from_slice(filtered),
        1 => in_runs(filtered, above, row, |left, _, _| left, |_, _| true),
        2 => add(filtered, above, row),
        3 => in_runs(
            filtered,
            above,
            row,
            |left, up, _| left.midpoint(up),
            |_, _| false,
        ),
        // Where the row above does not change, the prediction is the byte to the left.
        4 => in_runs(filtered, above, row, paeth, |before, up| all_are(up, before)),
        _ => return None,
    }
    Some(())
}

/// The sum of two rows. Not inlined: its arguments do not overlap, so that many bytes are added at once.
#[inline(never)]
fn add(filtered: &[u8], above: &[u8], row: &mut [u8]) {
    for ((byte, filtered), up) in row.iter_mut().zip(filtered).zip(above) {
        *byte = filtered.wrapping_add(*up);
    }
}

/// Adds `predict(left, up, up and left)` to every filtered byte. Eight zeros continue the byte before them if
/// `continues` says so, which gets the byte up and left of them and the bytes above.
#[inline(always)]
fn in_runs(
    filtered: &[u8],
    above: &[u8],
    row: &mut [u8],
    predict: impl Fn(u8, u8, u8) -> u8,
    continues: impl Fn(u8, [u8; 8]) -> bool,
) {
    let ((filtered, filtered_rest), (up, up_rest)) = (filtered.as_chunks::<8>(), above.as_chunks::<8>());
    let (row, row_rest) = row.as_chunks_mut::<8>();
    let (mut left, mut before) = (0, 0);
    for ((row, filtered), up) in row.iter_mut().zip(filtered).zip(up) {
        if all_are(*filtered, 0) && continues(before, *up) {
            *row = [left; 8];
            before = up[7];
        } else {
            one_by_one(filtered, up, row, (left, before), &predict);
            (left, before) = (row[7], up[7]);
        }
    }
    one_by_one(filtered_rest, up_rest, row_rest, (left, before), &predict);
}

/// Whether all eight bytes have a value.
pub(crate) fn all_are(bytes: [u8; 8], value: u8) -> bool {
    // As one number, which is compared at once.
    u64::from_ne_bytes(bytes) == u64::from_ne_bytes([value; 8])
}

#[inline(always)]
fn one_by_one(
    filtered: &[u8],
    above: &[u8],
    row: &mut [u8],
    (mut left, mut before): (u8, u8),
    predict: impl Fn(u8, u8, u8) -> u8,
) {
    for ((byte, filtered), &up) in row.iter_mut().zip(filtered).zip(above) {
        left = filtered.wrapping_add(predict(left, up, before));
        (*byte, before) = (left, up);
    }
}

/// The one of three neighbours that is next to their plane; the first of equals.
fn paeth(left: u8, up: u8, before: u8) -> u8 {
    let [a, b, c] = [left, up, before].map(i16::from);
    let [to_a, to_b, to_c] = [b - c, a - c, a + b - 2 * c].map(i16::abs);
    if to_a <= to_b && to_a <= to_c {
        left
    } else if to_b <= to_c {
        up
    } else {
        before
    }
}

/// The chunks of a PNG, each with its type and content; ends at one that is cut off or whose checksum is
/// wrong.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let length = u32::from_be_bytes(*length) as usize;
        let (checked, rest) = rest.split_at_checked(length.checked_add(4)?)?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (kind, data) = checked.split_first_chunk()?;
        self.rest = rest;
        (crc32fast::hash(checked) == u32::from_be_bytes(*sum)).then_some((*kind, data))
    }
}
