//! Damage inside of archives, whose checksums stay right.

use std::io::{Cursor, Read, Write};

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipArchive, ZipWriter};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::{bytes, inflated, npy};
use crate::Choices;

/// Files of an archive, by name.
type Members = Vec<(String, Vec<u8>)>;

/// Damages what a gzip file holds.
pub fn gzip(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut inner = Vec::new();
    if choices.one_in(5) || GzDecoder::new(content).read_to_end(&mut inner).is_err() {
        return bytes(content, choices);
    }
    let mut inner = bytes(&inner, choices);
    inflated(&mut inner, choices);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&inner).and_then(|()| encoder.finish()).expect("memory can be written to")
}

/// Damages a member of a zip archive, or the list of members.
pub fn zip(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let members = if choices.one_in(5) { None } else { unzipped(content) };
    let Some(mut members) = members else { return bytes(content, choices) };
    damage(&mut members, choices);
    if let Some((_, content)) = members.first_mut() {
        inflated(content, choices);
    }
    let method = choices.pick(&[CompressionMethod::Stored, CompressionMethod::Deflated]);
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        // A name that is there already cannot be written again.
        if writer.start_file(name, options).is_ok() {
            writer.write_all(&content).expect("memory can be written to");
        }
    }
    writer.finish().expect("memory can be written to").into_inner()
}

fn unzipped(content: &[u8]) -> Option<Members> {
    let mut archive = ZipArchive::new(Cursor::new(content)).ok()?;
    let mut members = Members::new();
    for at in 0..archive.len() {
        let mut member = archive.by_index(at).ok()?;
        let (name, mut content) = (member.name().ok()?.into_owned(), Vec::new());
        member.read_to_end(&mut content).ok()?;
        members.push((name, content));
    }
    Some(members)
}

/// The same for a tar archive.
pub fn tar(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let members = if choices.one_in(5) { None } else { untarred(content) };
    let Some(mut members) = members else { return bytes(content, choices) };
    damage(&mut members, choices);
    tarred(&members)
}

/// A tar archive of some files. Names that it cannot hold are left out.
pub fn tarred(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        let _ = builder.append_data(&mut header, name, content.as_slice());
    }
    builder.into_inner().expect("memory can be written to")
}

fn untarred(content: &[u8]) -> Option<Members> {
    let mut members = Members::new();
    for entry in ::tar::Archive::new(content).entries().ok()? {
        let mut entry = entry.ok()?;
        let (name, mut content) = (entry.path().ok()?.display().to_string(), Vec::new());
        entry.read_to_end(&mut content).ok()?;
        members.push((name, content));
    }
    Some(members)
}

fn damage(members: &mut Members, choices: &mut Choices<'_>) {
    if members.is_empty() {
        return;
    }
    let at = choices.below(members.len());
    match choices.below(12) {
        0 => {
            members.remove(at);
        }
        1 => {
            let name = &mut members[at].0;
            *name = match choices.below(6) {
                0 => format!("../{name}"),
                1 => format!("/{name}"),
                2 => name.to_uppercase(),
                3 => format!("{name}\0"),
                4 => "a".repeat(60_000),
                _ => format!("😀{name}"),
            };
        }
        2 => {
            let (name, content) = members[at].clone();
            members.push((format!("again/{name}"), bytes(&content, choices)));
        }
        3 => {
            let other = choices.below(members.len());
            let content = members[other].1.clone();
            members[at].1 = content;
        }
        op => {
            // Pickles say what the rest is, and are few among many storages.
            let pickle = members.iter().position(|(name, _)| name.ends_with("data.pkl"));
            let at = pickle.filter(|_| op < 9).unwrap_or(at);
            let (name, content) = &mut members[at];
            let damage = if name.ends_with(".npy") { npy } else { bytes };
            *content = damage(content, choices);
        }
    }
}
