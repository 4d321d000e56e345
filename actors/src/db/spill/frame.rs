//! How records lie in a file, so that a torn tail, a flipped bit or a half-written record is recognised.
//!
//! ```text
//! mark (4 bytes) · length (u32) · CRC-32 of length and record (u32) · record
//! ```
//!
//! Numbers are little-endian. The mark begins with a byte that no record has, since records are UTF-8: so the next record is
//! found behind one that was damaged, and nobody's text can look like a record.

use memchr::memmem;

const MARK: [u8; 4] = [0xff, b'd', b's', b'\n'];
const HEAD_BYTES: usize = MARK.len() + 8;

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) records: Vec<&'a [u8]>,
    /// What is no whole record and has one behind it: it was written, and damaged later.
    pub(super) damaged_bytes: usize,
    /// What is no whole record at the end: its writer died before it was on the disk.
    pub(super) torn_bytes: usize,
}

/// Appends a record to `frames`; says whether it did, since none is longer than a length can say.
pub(super) fn put(record: &[u8], frames: &mut Vec<u8>) -> bool {
    let Ok(length) = u32::try_from(record.len()) else { return false };
    frames.extend(MARK);
    frames.extend(length.to_le_bytes());
    frames.extend(checksum(length.to_le_bytes(), record).to_le_bytes());
    frames.extend(record);
    true
}

pub(super) fn read(bytes: &[u8]) -> Found<'_> {
    let mut found = Found::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some((record, after)) = first(rest) {
            found.damaged_bytes += std::mem::take(&mut found.torn_bytes);
            found.records.push(record);
            rest = after;
        } else {
            let next = memmem::find(&rest[1..], &MARK).map_or(rest.len(), |at| at + 1);
            found.torn_bytes += next;
            rest = &rest[next..];
        }
    }
    found
}

/// The record at the beginning, if a whole one is there, and what follows it.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let head = head.strip_prefix(&MARK)?;
    let (length, sum) = (head.first_chunk::<4>()?, head.last_chunk::<4>()?);
    let (record, after) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (checksum(*length, record) == u32::from_le_bytes(*sum)).then_some((record, after))
}

fn checksum(length: [u8; 4], record: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&length);
    sum.update(record);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: [&str; 3] = ["the first", "", "the third, which is a little longer"];

    fn three() -> (Vec<u8>, [usize; 3]) {
        let mut frames = Vec::new();
        let ends = RECORDS.map(|record| {
            assert!(put(record.as_bytes(), &mut frames));
            frames.len()
        });
        (frames, ends)
    }

    #[test]
    fn a_tail_torn_at_any_byte_costs_only_what_was_not_whole() {
        let (frames, ends) = three();
        for length in 0..=frames.len() {
            let found = read(&frames[..length]);
            let whole = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(found.records, RECORDS.map(str::as_bytes)[..whole], "{length} bytes");
            let kept = whole.checked_sub(1).map_or(0, |last| ends[last]);
            assert_eq!((found.damaged_bytes, found.torn_bytes), (0, length - kept), "{length} bytes");
        }
    }

    #[test]
    fn any_flipped_bit_costs_its_own_record_and_none_of_the_others() {
        let (frames, ends) = three();
        for place in 0..frames.len() {
            let hit = ends.iter().position(|end| place < *end).unwrap();
            for bit in 0..8 {
                let mut damaged = frames.clone();
                damaged[place] ^= 1 << bit;
                let found = read(&damaged);
                let mut left = RECORDS.map(str::as_bytes).to_vec();
                left.remove(hit);
                assert_eq!(found.records, left, "bit {bit} of byte {place}");
                let length = ends[hit] - hit.checked_sub(1).map_or(0, |before| ends[before]);
                let expected = if hit == 2 { (0, length) } else { (length, 0) };
                assert_eq!((found.damaged_bytes, found.torn_bytes), expected, "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn zeros_at_the_end_as_some_file_systems_leave_them_are_no_record() {
        let (mut frames, _) = three();
        frames.extend([0; 4_096]);
        let found = read(&frames);
        assert_eq!((found.records.len(), found.damaged_bytes, found.torn_bytes), (3, 0, 4_096));
    }
}
