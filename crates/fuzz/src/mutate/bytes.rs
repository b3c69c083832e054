//! Damage to bytes of which nothing is known.

use crate::Choices;

/// Numbers at the edges of what fields hold.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    u64::MAX / 2,
    u64::MAX,
];

/// Flips bits, writes numbers of the edges, cuts, repeats, inserts and moves.
pub fn bytes(content: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut content = content.to_vec();
    for _ in 0..choices.changes() {
        change(&mut content, choices);
    }
    content
}

/// One change.
pub(super) fn change(content: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let length = content.len();
    let at = choices.place(length);
    if at == length {
        // There is nothing to change: something is added.
        return content.extend(vec![0; 1 + choices.below(64)]);
    }
    // From here to the end, or so many bytes at most.
    let span = |most: usize, choices: &mut Choices<'_>| at..length.min(at + 1 + choices.below(most));
    match choices.below(10) {
        0 | 1 => content[at] ^= 1 << choices.below(8),
        2 => content[at] = choices.below(256) as u8,
        3 | 4 => {
            let (number, width) = (choices.pick(&EDGES), choices.pick(&[2, 4, 8]));
            let number = match choices.one_in(2) {
                true => number.to_be_bytes()[8 - width..].to_vec(),
                false => number.to_le_bytes()[..width].to_vec(),
            };
            content.splice(at..length.min(at + width), number);
        }
        5 => content.truncate(at),
        6 => drop(content.drain(span(64, choices))),
        7 => {
            let again = content[span(200, choices)].to_vec();
            content.splice(at..at, again);
        }
        8 => {
            let value = choices.pick(&[0, 0xff]);
            content[span(64, choices)].fill(value);
        }
        _ => {
            let from = choices.place(length);
            let moved = content[from..length.min(from + 1 + choices.below(64))].to_vec();
            content.splice(at..length.min(at + moved.len()), moved);
        }
    }
}

/// Writes unusual numbers over some of the float32 values.
pub(super) fn floats(content: &mut [u8], choices: &mut Choices<'_>) {
    for _ in 0..1 + choices.changes() {
        let at = 4 * choices.below(content.len() / 4);
        let value = choices.pick(&[f32::NAN, f32::INFINITY, -1.0, 1e-45, 3e38, 0.0, 1.0, 1.000_000_1]);
        if let Some(place) = content.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
}
