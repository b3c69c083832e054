//! What a file is by its first bytes, so that a file given in the wrong place is answered with the right command.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A kind of file that people have models or arrays in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A `.safetensors` file.
    Safetensors,
    /// A PyTorch checkpoint: zip with a pickle, tar, or a bare pickle.
    PyTorch,
    /// A zip of NumPy arrays.
    Npz,
    /// One NumPy array.
    Npy,
    /// Arrays as MATLAB saves them.
    Mat,
    /// HDF5: Keras, and older MATLAB exports.
    Hdf5,
    /// A zip of something else.
    Zip,
    /// JSON, TOML, YAML or any other text.
    Text,
    /// None of these.
    Unknown,
}

/// As much as is looked at.
const HEAD: u64 = 512;

impl Kind {
    /// What a file is.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut head = Vec::new();
        File::open(path)?.take(HEAD).read_to_end(&mut head)?;
        Ok(Self::of(&head))
    }

    /// What a file is that begins with these bytes.
    pub fn of(head: &[u8]) -> Self {
        let contains = |what: &[u8]| head.windows(what.len()).any(|window| window == what);
        // Eight bytes of length, then the JSON header.
        let length = head.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        if length.is_some_and(|length| length < 1 << 32) && head.get(8) == Some(&b'{') {
            return Self::Safetensors;
        }
        match head {
            [b'P', b'K', ..] if contains(b".npy") => Self::Npz,
            // The first entry of what `torch.save` writes is the pickle, below a folder named after the file.
            [b'P', b'K', ..] if contains(b".pkl") || contains(b"/data/") || contains(b"version") => {
                Self::PyTorch
            }
            [b'P', b'K', ..] => Self::Zip,
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Self::Npy,
            [0x89, b'H', b'D', b'F', ..] => Self::Hdf5,
            // 116 bytes of text, then a version and the order of the bytes. HDF5 with this text in front is from MATLAB, too.
            _ if head.starts_with(b"MATLAB") => Self::Mat,
            _ if matches!(head.get(124..128), Some([0, 1, b'I', b'M'] | [1, 0, b'M', b'I'])) => Self::Mat,
            // A pickle of protocol 2 or later; a tar archive says so at byte 257.
            [0x80, 2..=5, ..] => Self::PyTorch,
            _ if head.get(257..262) == Some(b"ustar") => Self::PyTorch,
            [] => Self::Unknown,
            _ if head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..)) => {
                Self::Text
            }
            _ => Self::Unknown,
        }
    }

    /// In words, after "this is".
    pub fn words(self) -> &'static str {
        match self {
            Self::Safetensors => "a .safetensors file",
            Self::PyTorch => "a PyTorch file",
            Self::Npz => "a NumPy archive (.npz)",
            Self::Npy => "a NumPy array (.npy)",
            Self::Mat => "a MATLAB file (.mat)",
            Self::Hdf5 => "an HDF5 file",
            Self::Zip => "a zip archive",
            Self::Text => "a text file",
            Self::Unknown => "of no known kind",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let mut tar = vec![0; 300];
        tar[257..262].copy_from_slice(b"ustar");
        let mut mat = vec![b' '; 128];
        mat[124..].copy_from_slice(b"\x00\x01IM");
        for (head, kind) in [
            (&b"\x10\0\0\0\0\0\0\0{\"a\""[..], Kind::Safetensors),
            // A header of 128 bytes begins like a pickle.
            (b"\x80\0\0\0\0\0\0\0{\"a\"", Kind::Safetensors),
            (b"PK\x03\x04........................model/data.pkl", Kind::PyTorch),
            (b"PK\x03\x04........................x.npy", Kind::Npz),
            (b"PK\x03\x04........................a.txt", Kind::Zip),
            (b"\x80\x02\x8a\x0al\xfc", Kind::PyTorch),
            (&tar, Kind::PyTorch),
            (b"\x93NUMPY\x01", Kind::Npy),
            (b"\x89HDF\r\n", Kind::Hdf5),
            (b"MATLAB 5.0 MAT-file Platform: posix", Kind::Mat),
            (&mat, Kind::Mat),
            (b"[architecture]\nkind = \"mdeq\"\n", Kind::Text),
            (b"", Kind::Unknown),
            (b"\x00\x01\x02", Kind::Unknown),
        ] {
            assert_eq!(Kind::of(head), kind, "{head:?}");
        }
    }
}
