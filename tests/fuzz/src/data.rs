//! Files of data: tables of events in every format, arrays, negatives, roles of columns, prepared sets, and what a run kept.
//!
//! Each function takes any bytes and says whether they were read; what is wrong with a file has to be an error that names it.

use std::fs;
use std::path::{Path, PathBuf};

use tempograph_framework::{
    Dataset, Encoding, EventId, Features, FixedNegatives, Format, History, Missing, NodeId, PrepareOptions, Prepared,
    StaticMemory, StaticOrigin, Store, Table, prepare, prepare_files, sha256_hex, tgb_negatives,
};
use tempograph_kernels::Rows as _;
use tempograph_models::{FeatureWidths, ModelSpec, TgnSpec};
use tempograph_trainers::read_best_model;

macro_rules! fixture {
    ($path:literal) => {
        include_bytes!(concat!("../../../framework/tests/fixtures/", $path))
    };
}

/// Names of text files whose formats differ, and an example of each.
const TEXTS: [(&str, &[u8]); 14] = [
    ("events.csv", b"src,dst,ts,label,w,kind\n1,2,3.5,0,0.25,a\n\"2\",3,4,1,-1e3,b\n3,1,4,0,,a\n"),
    ("dates.csv", b"# made by hand\nuser;item;when\nann;x;2024-03-01T00:00:00+01:00\nbob;\"y;z\";2024-03-01 00:00:01.5Z\n"),
    ("blanks.txt", b"% a comment\n1 2 10\n1  4\t11\n3 2 12\n"),
    ("ml_x.csv", b",u,i,ts,label,idx\n0,1,2,3.0,0.0,1\n1,2,1,4.0,0.0,2\n"),
    ("edges.csv", b",src,dst,time,ext_roll\n0,1,2,3,0\n1,2,3,4,1\n"),
    ("jodie.csv", b"user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n0,0,1.5,0,0.1,0.2\n1,0,2,1,0.3,0.4\n"),
    ("log.inter", b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n186\t196\t3\t891717742\n"),
    ("out.x", b"% sym weighted\n% 2 3 3\n1 2 5 1200000000\n2 3 7 1200000001\n"),
    ("contacts.dat", b"31220 1558 1567\n31220 1560 1570\n31240 1558 1567\n31240 1567 1574\n31260 1632 1558\n"),
    ("tgbl-wiki_edgelist_v2.csv", fixture!("tgb/layouts/tgbl-wiki/tgbl-wiki_edgelist_v2.csv")),
    ("tgbl-flight_edgelist_v2.csv", fixture!("tgb/layouts/tgbl-flight/tgbl-flight_edgelist_v2.csv")),
    ("tgbl-comment_edgelist.csv", fixture!("tgb/layouts/tgbl-comment/tgbl-comment_edgelist.csv")),
    ("packed.csv.gz", b""),
    ("packed.csv.zst", b""),
];

/// Options that a byte stands for.
fn options(byte: u8) -> PrepareOptions {
    let bit = |at: u8| byte >> at & 1 == 1;
    let mut options = PrepareOptions {
        strict: bit(0),
        row_order: bit(1),
        text_ids: bit(2),
        bipartite: bit(3).then(|| bit(0)),
        missing: bit(4).then(|| if bit(5) { Missing::Drop } else { Missing::Zero }),
        encoding: bit(5).then_some(Encoding::Index),
        time_scale: bit(6).then_some(1000),
        ..PrepareOptions::default()
    };
    if bit(7) {
        options.columns.categorical = vec!["kind".into()];
        options.columns.drop = vec!["w".into()];
    }
    options
}

/// Prepares a file that is in a folder of its own. A set that was read is written, opened again and the same.
fn prepare_file(name: &str, content: &[u8], options: &PrepareOptions) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, content).expect("a file");
    let options = PrepareOptions { scratch: Some(folder.path().to_owned()), ..options.clone() };
    match prepare_files(&[&path], &options, &mut |_, _| {}) {
        Ok(Prepared { dataset, reading }) => {
            assert!(!dataset.log.is_empty() && reading.rows >= dataset.log.len() as u64, "{reading}");
            let written = folder.path().join("set");
            dataset.write(&written).expect("what was read can be written");
            let opened = Dataset::open(&written).expect("what was written can be opened");
            opened.verify().expect("what was written is whole");
            assert_eq!(
                (opened.log.len(), opened.nodes, &opened.checksum),
                (dataset.log.len(), dataset.nodes, &dataset.checksum)
            );
            true
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains(name) || said.contains("tempograph"), "{said} does not name {name}");
            false
        }
    }
}

/// Text of any format: the first byte is the file's name, the second the options.
pub fn text(bytes: &[u8]) -> bool {
    let Some((&[which, flags], content)) = bytes.split_first_chunk::<2>() else { return false };
    let (name, _) = TEXTS[usize::from(which) % TEXTS.len()];
    prepare_file(name, content, &options(flags))
}

/// The first text, packed by the rules of gzip or Zstandard as one block that is not made smaller.
fn packed(with: &str) -> Vec<u8> {
    let text = TEXTS[0].1;
    let count = text.len() as u16;
    if with.ends_with(".gz") {
        let crc = !text.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        });
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
        return [
            &head,
            &count.to_le_bytes()[..],
            &(!count).to_le_bytes(),
            text,
            &crc.to_le_bytes(),
            &u32::from(count).to_le_bytes(),
        ]
        .concat();
    }
    // A window of 1 MiB, and no size of the whole.
    let block = (u32::from(count) << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x50][..], &block[..3], text].concat()
}

pub(crate) fn text_examples() -> Vec<Vec<u8>> {
    let example = |(which, (name, text)): (usize, &(&str, &[u8]))| {
        // The first text has a missing value and a column of words, and so have the packed ones.
        let flags = if which == 0 || text.is_empty() { 0x90 } else { 0 };
        let content = if text.is_empty() { packed(name) } else { text.to_vec() };
        [vec![which as u8, flags], content].concat()
    };
    TEXTS.iter().enumerate().map(example).collect()
}

/// Parquet; the first byte is the options.
pub fn parquet(bytes: &[u8]) -> bool {
    let Some((&flags, content)) = bytes.split_first() else { return false };
    prepare_file("events.parquet", content, &PrepareOptions { format: Some(Format::Parquet), ..options(flags) })
}

pub(crate) fn parquet_examples() -> Vec<Vec<u8>> {
    let files: [&[u8]; 3] =
        [fixture!("parquet/pandas.parquet"), fixture!("parquet/polars.parquet"), fixture!("parquet/spark.parquet")];
    files.iter().map(|file| [&[0x10][..], file].concat()).collect()
}

/// Arrow IPC; the first byte is the options. A build without its reader refuses all.
pub fn arrow(bytes: &[u8]) -> bool {
    let Some((&flags, content)) = bytes.split_first() else { return false };
    prepare_file("events.arrow", content, &PrepareOptions { format: Some(Format::Arrow), ..options(flags) })
}

pub(crate) fn arrow_examples() -> Vec<Vec<u8>> {
    let files: [&[u8]; 5] = [
        fixture!("arrow/pandas.feather"),
        fixture!("arrow/polars.arrow"),
        fixture!("arrow/polars.arrows"),
        fixture!("arrow/wide.arrow"),
        fixture!("arrow/wide_lz4.feather"),
    ];
    files.iter().map(|file| [&[0x10][..], file].concat()).collect()
}

/// Arrays of features: the first byte says of what, and in which layout.
pub fn array(bytes: &[u8]) -> bool {
    let Some((&which, content)) = bytes.split_first() else { return false };
    let (table, array) = [
        (TEXTS[0], "edge_feat.npy"),
        (TEXTS[0], "node_feat.npy"),
        (TEXTS[3], "ml_x.npy"),
        (TEXTS[3], "ml_x_node.npy"),
        (TEXTS[4], "edge_features.npy"),
    ][usize::from(which) % 5];
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(array), content).expect("a file");
    let path = folder.path().join(table.0);
    fs::write(&path, table.1).expect("a file");
    let mut options = PrepareOptions { missing: Some(Missing::Zero), ..PrepareOptions::default() };
    if table.0 == TEXTS[0].0 {
        options.columns.drop = vec!["kind".into()];
    }
    let read = prepare_files(&[&path], &options, &mut |_, _| {});
    if let Err(error) = &read {
        assert!(error.to_string().contains(array), "{error} does not name {array}");
    }
    read.is_ok()
}

/// An array of numpy, `rows` of `width` 32-bit floats.
fn npy(rows: usize, width: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}\n");
    let values = (0..rows * width).flat_map(|value| (value as f32).to_le_bytes());
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()]
        .concat()
        .into_iter()
        .chain(values)
        .collect()
}

pub(crate) fn array_examples() -> Vec<Vec<u8>> {
    [(0, 3, 2), (1, 4, 2), (2, 3, 2), (3, 3, 2), (4, 2, 2)]
        .map(|(which, rows, width)| [vec![which], npy(rows, width)].concat())
        .into()
}

/// A small set in memory, and its split's test events.
fn wiki() -> &'static Dataset {
    static SET: std::sync::OnceLock<Dataset> = std::sync::OnceLock::new();
    SET.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(TEXTS[9].0);
        fs::write(&path, TEXTS[9].1).expect("a file");
        prepare(&path, &PrepareOptions::default(), &mut |_, _| {}).expect("a set")
    })
}

/// Fixed negatives: TGB's pickles if the first byte is even, else this program's own form.
pub fn negatives(bytes: &[u8]) -> bool {
    let Some((&which, content)) = bytes.split_first() else { return false };
    let folder = tempfile::tempdir().expect("a folder");
    let set = wiki();
    let range = set.log.len() - 9..set.log.len();
    let name = if which.is_multiple_of(2) { "test.pkl" } else { "test.safetensors" };
    let path = folder.path().join(name);
    fs::write(&path, content).expect("a file");
    let read = if which.is_multiple_of(2) {
        tgb_negatives(&path, set, &set.log, range.clone())
    } else {
        FixedNegatives::read(&path)
    };
    let Ok(fixed) = read else { return false };
    let fits = fixed.check(range.clone(), set.log.dst(), set.nodes, set.sides).is_ok();
    fits && range.into_iter().all(|event| fixed.of(EventId(event as u64)).is_ok())
}

pub(crate) fn negatives_examples() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("own.safetensors");
    let set = wiki();
    let first = set.log.len() - 9;
    // Another item than the event's own.
    let nodes = set.log.dst()[first..].iter().map(|own| NodeId(own.0 ^ 1)).collect();
    let offsets = (0..=9).collect();
    FixedNegatives::new(EventId(first as u64), nodes, offsets).expect("a table").write(&own).expect("a file");
    vec![
        [&[0][..], fixture!("tgb/layouts/tgbl-wiki/tgbl-wiki_test_ns_v2.pkl")].concat(),
        [vec![1], fs::read(own).expect("a file")].concat(),
    ]
}

/// The roles of columns in a TOML file beside the events.
pub fn columns(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.csv");
    fs::write(&path, TEXTS[0].1).expect("a file");
    fs::write(folder.path().join("events.toml"), bytes).expect("a file");
    prepare_files(&[&path], &PrepareOptions::default(), &mut |_, _| {}).is_ok()
}

pub(crate) fn columns_examples() -> Vec<Vec<u8>> {
    vec![
        b"src = \"src\"\ndst = \"dst\"\nts = \"ts\"\nlabel = \"label\"\nfeatures = [\"w\"]\nmissing = \"zero\"\ndelimiter = \"comma\"\nformat = \"csv\"\ntime-unit = \"s\"\ntime-scale = 10\nbipartite = true\nname = \"x\"\nids = \"text\"\n".to_vec(),
        b"categorical = [\"kind\"]\ndrop = [\"w\"]\nencoding = \"index\"\nrow-order = false\n".to_vec(),
    ]
}

/// A folder with a prepared set.
fn prepared() -> &'static Path {
    static FOLDER: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let names = folder.path().join("names.csv");
        fs::write(&names, "user,item,ts,label,w\nann,x,1,a,0.5\nbob,y,2,b,1\nann,y,3,a,2\n").expect("a file");
        let set = prepare(&names, &PrepareOptions::default(), &mut |_, _| {}).expect("a set");
        set.write(folder.path().join("set")).expect("a set");
        folder
    });
    made.path()
}

/// A prepared set: its manifest if the first byte is even, else its columns, which the manifest then names as they are.
pub fn set(bytes: &[u8]) -> bool {
    let Some((&which, content)) = bytes.split_first() else { return false };
    let folder = tempfile::tempdir().expect("a folder");
    let from = prepared().join("set");
    for name in ["dataset.json", "columns.safetensors"] {
        fs::copy(from.join(name), folder.path().join(name)).expect("a file");
    }
    if which.is_multiple_of(2) {
        fs::write(folder.path().join("dataset.json"), content).expect("a file");
    } else {
        fs::write(folder.path().join("columns.safetensors"), content).expect("a file");
        let manifest = fs::read_to_string(from.join("dataset.json")).expect("a manifest");
        let was = sha256_hex([fs::read(from.join("columns.safetensors")).expect("columns")]);
        let is = sha256_hex([content]);
        fs::write(folder.path().join("dataset.json"), manifest.replace(&was, &is)).expect("a manifest");
    }
    let Ok(set) = Dataset::open(folder.path()) else { return false };
    let batch = set.log.batch(0..set.log.len());
    let width: usize = batch
        .events()
        .map(|event| event.src.index() + set.log.features().map_or(0, |rows| rows.row(event.id.0).len()))
        .sum();
    let names: usize = (0..set.nodes.min(1000)).map(|node| set.ids.name(NodeId(node as u32)).len()).sum();
    std::hint::black_box((width, names));
    set.verify().is_ok()
}

pub(crate) fn set_examples() -> Vec<Vec<u8>> {
    let read = |name: &str| fs::read(prepared().join("set").join(name)).expect("a file");
    vec![[vec![0], read("dataset.json")].concat(), [vec![1], read("columns.safetensors")].concat()]
}

/// What a run kept of its best epoch, if the first byte is even; else a static memory. Both with checksums that are right all the same.
pub fn run(bytes: &[u8]) -> bool {
    let Some((&which, content)) = bytes.split_first() else { return false };
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("kept.safetensors");
    if which.is_multiple_of(2) {
        match Store::from_bytes(content, &path) {
            Ok(store) => store.write_sealed(&path).expect("a file"),
            Err(_) => fs::write(&path, content).expect("a file"),
        }
        let Ok(best) = read_best_model(&path, needs(), Features::default()) else { return false };
        let again = History::from_store(best.history.to_store(), needs(), Features::default());
        assert!(again.is_ok(), "what was read is not what is written: {:?}", again.err());
        true
    } else {
        fs::write(&path, content).expect("a file");
        StaticMemory::read(&path).is_ok_and(|memory| memory.vectors.width() > 0)
    }
}

/// What a small model needs of a history.
fn needs() -> tempograph_framework::Needs {
    let spec = TgnSpec { memory: 4, time: 4, width: 4, neighbours: 3, ..TgnSpec::default() };
    let program = ModelSpec::from(spec).program(FeatureWidths { edge: 0, node: 0 }).expect("a program");
    program.needs().clone()
}

pub(crate) fn run_examples() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let dataset = Dataset::from_spec("synthetic:events=60,users=5,items=4").expect("a stream");
    let history = History::new(dataset.nodes, needs(), dataset.log.time()[0], Features::default());
    let mut store = Store::default();
    store.merge("history.", history.to_store());
    store.put("model.weight", [2, 3], vec![0.5f32; 6]);
    store.set_metadata("mark", r#"{"epoch":1,"score":0.5}"#.into());
    store.set_metadata("sources", r#"{"data.path":"a"}"#.into());
    let vectors = Table::new(vec![0.25; 2 * dataset.nodes], 2).expect("a table");
    let origin = StaticOrigin::new(&dataset, 0..40, 1, String::new());
    let memory = folder.path().join("static.safetensors");
    StaticMemory::new(vectors, origin).write(&memory).expect("a file");
    vec![[vec![0], store.to_bytes().expect("a store")].concat(), [vec![1], fs::read(memory).expect("a file")].concat()]
}
