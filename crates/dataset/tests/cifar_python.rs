//! The batches for Python, which torchvision leaves. Nothing of a pickle is run.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use equipoise_dataset::{Source, Split};
use tempfile::{TempDir, tempdir};

/// A batch as Python 2's cPickle wrote those that are published: keys and labels as they are given.
fn python2(key: &str, labels: &[u8], rows: &[u8]) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x14testing batch 1 of 1q\x03U".to_vec();
    out.push(key.len() as u8);
    out.extend(key.as_bytes());
    out.extend(b"q\x04]q\x05(");
    out.extend(labels.iter().flat_map(|&label| [b'K', label]));
    out.extend(b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t(K\x01");
    let (count, side) = (labels.len() as u16, (rows.len() / labels.len().max(1)) as u16);
    out.push(b'M');
    out.extend(count.to_le_bytes());
    out.push(b'M');
    out.extend(side.to_le_bytes());
    out.extend(b"\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    out.extend((rows.len() as u32).to_le_bytes());
    out.extend(rows);
    out.extend(b"tbU\tfilenamesq\x0c](U\x05a.pngU\x05b.pngeu.");
    out
}

fn rows(seeds: &[usize]) -> Vec<u8> {
    seeds.iter().flat_map(|&seed| record(0, seed).split_off(1)).collect()
}

fn put(folder: &TempDir, name: &str, content: &[u8]) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn cifar10(folder: &TempDir) -> Source {
    Source::Cifar10(folder.path().into())
}

#[test]
fn the_published_batches_are_read_in_order() {
    let folder = tempdir().unwrap();
    for batch in 1..=5u8 {
        let content = python2("labels", &[batch, 9 - batch], &rows(&[batch.into(), 10]));
        put(&folder, &format!("cifar-10-batches-py/data_batch_{batch}"), &content);
    }
    put(&folder, "cifar-10-batches-py/test_batch", &python2("labels", &[7], &rows(&[3])));
    put(&folder, "cifar-10-batches-py/batches.meta", b"not looked at");
    put(&folder, "cifar-10-python.tar.gz", b"left by torchvision");
    let train = cifar10(&folder).load(Split::Train).unwrap();
    assert_eq!((train.name.as_str(), train.shape), ("CIFAR-10", [3, 32, 32]));
    assert_eq!(train.labels, [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]);
    assert_eq!(bytes(&train.select(&[8])), rows(&[5]));
    let test = Source::Cifar10(folder.path().join("cifar-10-batches-py")).load(Split::Test).unwrap();
    assert_eq!((test.labels.as_slice(), bytes(&test)), (&[7][..], rows(&[3])));
    fs::remove_file(folder.path().join("cifar-10-batches-py/data_batch_3")).unwrap();
    says(&failure(&cifar10(&folder), Split::Train), &["data_batch_3 not found", "cifar-10-python.tar.gz"]);
}

#[test]
fn every_protocol_of_python_3_is_read() {
    for protocol in 2..=5 {
        let folder = tempdir().unwrap();
        put(&folder, "test_batch", &fs::read(fixture(&format!("pickles/protocol-{protocol}"))).unwrap());
        let test = cifar10(&folder).load(Split::Test).unwrap();
        assert_eq!(
            (test.labels.as_slice(), bytes(&test)),
            (&[3, 8][..], rows(&[0, 1])),
            "protocol {protocol}"
        );
    }
}

#[test]
fn cifar_100_has_two_kinds_of_labels() {
    let folder = tempdir().unwrap();
    // Labels as an array and as a list of NumPy's integers, data in Fortran's order, keys of bytes.
    put(&folder, "cifar-100-python/test", &fs::read(fixture("pickles/arrays")).unwrap());
    let fine = Source::Cifar100(folder.path().into()).load(Split::Test).unwrap();
    let coarse = Source::Cifar100Coarse(folder.path().into()).load(Split::Test).unwrap();
    assert_eq!((fine.labels.as_slice(), coarse.labels.as_slice()), (&[99, 0][..], &[19, 1][..]));
    assert_eq!(bytes(&fine), rows(&[0, 1]));
    put(&folder, "cifar-100-python/train", &python2("fine_labels", &[42], &rows(&[2])));
    assert_eq!(Source::Cifar100(folder.path().into()).load(Split::Train).unwrap().labels, [42]);
    says(
        &failure(&Source::Cifar100Coarse(folder.path().into()), Split::Train),
        &["cifar-100-python/train: it holds no coarse_labels"],
    );
}

/// The message for a `test_batch` with this content.
fn refused(content: &[u8]) -> String {
    let folder = tempdir().unwrap();
    put(&folder, "test_batch", content);
    let message = failure(&cifar10(&folder), Split::Test);
    says(&message, &["test_batch"]);
    message
}

#[test]
fn nothing_is_run() {
    let marker = std::env::temp_dir().join(format!("equipoise-pickle-{}", std::process::id()));
    let call = |function: &str| {
        format!(
            "\x02}}(U\x06labelsc{function}\n(U\x05touchU{}{}tRu.",
            marker.display().to_string().len() as u8 as char,
            marker.display()
        )
    };
    for (function, name) in [
        ("posix\nsystem", "posix.system"),
        ("subprocess\ncheck_call", "subprocess.check_call"),
        ("builtins\neval", "builtins.eval"),
        ("numpy\nload", "numpy.load"),
    ] {
        let content = [b"\x80", call(function).as_bytes()].concat();
        says(&refused(&content), &[name, "nothing of a pickle is run"]);
    }
    assert!(!Path::new(&marker).exists());
    // By STACK_GLOBAL too, and by the instructions that make and fill objects.
    says(&refused(b"\x80\x04\x8c\x05posix\x8c\x06system\x93."), &["posix.system"]);
    for (content, name) in [
        (&b"(iposix\nsystem\n."[..], "INST"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"\x80\x04P0\n.", "PERSID"),
        (b"\x80\x04NQ.", "BINPERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02(o.", "OBJ"),
        (b"S'text'\n.", "STRING"),
    ] {
        says(&refused(content), &[name, "not carried out"]);
    }
}

#[test]
fn what_is_no_batch_is_described() {
    for (content, problem) in [
        (&b""[..], "byte 0: the file ends too early"),
        (b"\x80\x06.", "protocol 6"),
        (b"\x80\x02\xff", "0xff is no instruction"),
        (b"\x80\x02].", "it holds no labels"),
        (b"\x80\x02}.", "it holds no labels"),
        (b"\x80\x02.", "the stack is empty"),
        (b"\x80\x02u.", "there is no mark"),
        (b"\x80\x02}(K", "ends too early"),
        (b"\x80\x02}(K\x01u.", "a key without a value"),
        (b"\x80\x02N(Ne.", "nothing to put this into"),
        (b"\x80\x02h\x05.", "nothing was stored"),
        (b"\x80\x02T\xff\xff\xff\xff.", "ends too early"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "ends too early"),
        (b"\x80\x02\x8a\xff.", "an integer of 255 bytes"),
    ] {
        says(&refused(content), &[problem]);
    }
    let good = python2("labels", &[1, 2], &rows(&[0, 1]));
    says(&refused(&python2("labels", &[1, 10], &rows(&[0, 1]))), &["image 1: label 10 is outside 0..=9"]);
    says(&refused(&python2("labels", &[1, 2], &rows(&[0]))), &["data is u1 [2, 1536]", "[2, 3072]"]);
    // A shape that its bytes do not fill.
    let at = good.windows(2).rposition(|pair| pair == [0x00, 0x0c]).unwrap();
    let mut larger = good.clone();
    larger[at + 1] = 0x0d;
    says(&refused(&larger), &["data: its shape [2, 3328] needs 6656 bytes, found 6144"]);
    for kept in [good.len() - 1, good.len() / 2, 40, 1] {
        refused(&good[..kept]);
    }
}

#[test]
fn no_damaged_byte_makes_the_program_panic() {
    let folder = tempdir().unwrap();
    for whole in
        [python2("labels", &[1, 2], &rows(&[0, 1])), fs::read(fixture("pickles/protocol-5")).unwrap()]
    {
        let parts = (0..300).chain(whole.len() - 60..whole.len());
        for at in parts {
            for value in [0, 40, 82, 255] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                put(&folder, "test_batch", &damaged);
                match cifar10(&folder).load(Split::Test) {
                    Ok(set) => assert_eq!(set.shape, [3, 32, 32]),
                    Err(error) => says(&error.to_string(), &["test_batch"]),
                }
            }
        }
    }
}

#[test]
fn a_small_file_cannot_ask_for_much() {
    // A text of a kilobyte, encoded again and again; and lists within lists.
    let mut content = b"\x80\x02c_codecs\nencode\nq\x00X\x00\x04\x00\x00".to_vec();
    content.extend([b'a'; 1024]);
    content.extend(b"X\x06\x00\x00\x00latin1\x86q\x01");
    content.extend(b"h\x00h\x01R".repeat(1000));
    says(&refused(&content), &["more bytes than the file has"]);
    let mut content = b"\x80\x02".to_vec();
    content.extend([b']'; 1_000_000]);
    content.extend([b'a'; 999_999]);
    content.push(b'.');
    says(&refused(&content), &["it holds no labels"]);
}
