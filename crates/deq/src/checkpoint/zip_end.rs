//! The end of a zip file without room for a wrong guess.
//!
//! `torch.save` writes the records of the 64-bit zip form (76 bytes) between the directory and the 32-bit end record,
//! also where all numbers fit in 32 bits. The zip reader that is used here then takes the directory to end at the end
//! record, 76 bytes late, and looks for an entry's header where it would begin. That finds one by chance if the first
//! header is 76 bytes long, as it is for an archive name of 21 letters; the first entry, the pickle, is then missing.
//! A copy without the superfluous records cannot be misread.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;

const HEADER: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END_SIZE: usize = 22;
const LOCATOR_SIZE: u64 = 20;

/// A copy of the archive that can be read in one way only, or `None` where the file itself can.
///
/// # Errors
///
/// If the file cannot be read, or the copy cannot be written to the folder for temporary files.
pub fn unambiguous(path: &Path) -> io::Result<Option<NamedTempFile>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let Some(end_at) = length.checked_sub(END_SIZE as u64) else { return Ok(None) };
    // torch.save writes no comment, so that the end record is the last thing.
    let end = read_at::<END_SIZE>(&mut file, end_at)?;
    let number = |at: usize| u64::from(u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]));
    let (size, start) = (number(12), number(16));
    let in_64_bits = u64::from(u32::MAX);
    if end[..4] != END || size == in_64_bits || start == in_64_bits || start + size + LOCATOR_SIZE > end_at {
        return Ok(None);
    }
    let is = |file: &mut File, at: u64, magic: [u8; 4]| Ok::<_, io::Error>(read_at::<4>(file, at)? == magic);
    let ambiguous = is(&mut file, end_at - LOCATOR_SIZE, LOCATOR)?
        && is(&mut file, start, HEADER)?
        && is(&mut file, end_at - size, HEADER)?;
    if !ambiguous {
        return Ok(None);
    }
    let mut copy = NamedTempFile::new()?;
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut file.take(start + size), copy.as_file_mut())?;
    copy.write_all(&end)?;
    copy.flush()?;
    Ok(Some(copy))
}

fn read_at<const N: usize>(file: &mut File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::export::archive;
    use super::super::tensors;
    use super::*;
    use crate::model::state_dict::{Entry, StateDict};

    /// What `torch.save` writes: the records of the 64-bit form before the end record.
    fn with_64_bit_records(mut zip: Vec<u8>) -> Vec<u8> {
        let end = zip.split_off(zip.len() - END_SIZE);
        let field = |at: usize, size: usize| {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(&end[at..at + size]);
            bytes
        };
        let (entries, size, start) = (field(10, 2), field(12, 4), field(16, 4));
        let record = zip.len() as u64;
        zip.extend(b"PK\x06\x06");
        zip.extend(44_u64.to_le_bytes());
        zip.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // versions, disks
        for number in [entries, entries, size, start] {
            zip.extend(number);
        }
        zip.extend(LOCATOR);
        zip.extend(0_u32.to_le_bytes());
        zip.extend(record.to_le_bytes());
        zip.extend(1_u32.to_le_bytes());
        zip.extend(end);
        zip
    }

    #[test]
    fn archives_of_any_name_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        let entry = Entry { shape: vec![2], values: vec![1.0, -2.0] };
        let dict = StateDict::from([("linear.bias".to_owned(), entry.clone())]);
        let mut copied = Vec::new();
        for letters in 1..48 {
            let zip = archive(&dict, &"n".repeat(letters)).unwrap();
            fs::write(&path, with_64_bit_records(zip.clone())).unwrap();
            if unambiguous(&path).unwrap().is_some() {
                copied.push(letters);
            }
            let found = tensors::read(&path).unwrap_or_else(|error| panic!("{letters} letters: {error}"));
            assert_eq!(found["linear.bias"].to_f32().unwrap(), entry);
            // Without these records there is nothing to mistake.
            fs::write(&path, zip).unwrap();
            assert!(unambiguous(&path).unwrap().is_none());
            assert_eq!(tensors::read(&path).unwrap()["linear.bias"].to_f32().unwrap(), entry);
        }
        assert_eq!(copied, [21]);
    }
}
