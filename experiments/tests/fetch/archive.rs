//! Zip archives written by hand, so that they can lie.

use std::io::Write;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// A file for an archive. `declared` is the length the archive gives for it.
pub struct Entry<'a> {
    pub name: &'a str,
    pub body: &'a [u8],
    pub declared: usize,
}

impl<'a> Entry<'a> {
    pub fn honest(name: &'a str, body: &'a [u8]) -> Self {
        Self { name, body, declared: body.len() }
    }
}

/// A deflated archive: local entries, the central directory, and its end, as in PKWARE's APPNOTE 4.3.
pub fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = archive.len() as u32;
        let packed = deflate(entry.body);
        let description = description(entry, packed.len());
        archive.extend(b"PK\x03\x04");
        archive.extend(&description);
        archive.extend(entry.name.as_bytes());
        archive.extend(&packed);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&description);
        // No comment, first disk, no attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let offset = archive.len() as u32;
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00");
    archive.extend(count);
    archive.extend(count);
    archive.extend((directory.len() as u32).to_le_bytes());
    archive.extend(offset.to_le_bytes());
    archive.extend([0; 2]);
    archive
}

/// The fields that the local header and the directory share: version to the length of the extra field.
fn description(entry: &Entry, packed: usize) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(entry.body);
    let mut fields = Vec::new();
    // Version 2.0, no flags, deflate, midnight of 1 January 1980.
    fields.extend([20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0]);
    fields.extend(crc.sum().to_le_bytes());
    fields.extend((packed as u32).to_le_bytes());
    fields.extend((entry.declared as u32).to_le_bytes());
    fields.extend((entry.name.len() as u16).to_le_bytes());
    fields.extend([0; 2]);
    fields
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}
