//! Every format is read back as it was written; every kind of bad input is refused by name.

use std::io::Write;
use std::path::PathBuf;

use ::parquet::data_type::{DoubleType, FloatType, Int64Type};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::dataset::prepare::*;
use crate::{EventId, NodeId, Sides};

/// A folder of files that is gone after the test.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, content)| fs::write(folder.path(name), content).unwrap());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn prepare(&self, options: &PrepareOptions) -> Result<Dataset, PrepareError> {
        prepare(self.0.path(), options, &mut |_, _| {})
    }

    fn read(&self) -> Dataset {
        self.prepare(&PrepareOptions::default()).unwrap()
    }

    fn refusal(&self) -> String {
        self.prepare(&PrepareOptions::default()).unwrap_err().to_string()
    }
}

/// An event in the user's ids: source, destination, ticks, label, features.
type Told = (u64, u64, i64, f32, Vec<f32>);

/// The events of a set in the user's own ids.
fn stated(set: &Dataset) -> Vec<Told> {
    let features = |id: EventId| set.log.features().map_or(Vec::new(), |rows| rows.row(id.0).to_vec());
    let tell = |event: crate::Event| {
        (set.ids.external_id(event.src), set.ids.external_id(event.dst), event.time.0, event.label, features(event.id))
    };
    set.log.batch(0..set.log.len()).events().map(tell).collect()
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
}

fn npy_f32(rows: usize, values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    npy("<f4", &format!("{rows}, {}", values.len() / rows), &bytes)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

const CSV: &[u8] = b"src,dst,ts,label,a,b\n5,7,10,0,1.5,2\n7,9,10,1,-1,0\r\n5,9,12,0,0,0.25\n";

fn csv_events() -> Vec<Told> {
    vec![(5, 7, 10, 0.0, vec![1.5, 2.0]), (7, 9, 10, 1.0, vec![-1.0, 0.0]), (5, 9, 12, 0.0, vec![0.0, 0.25])]
}

#[test]
fn csv_is_read_with_its_feature_columns() {
    let set =
        Folder::new(&[("edges.csv", CSV), ("meta.json", br#"{"name": "mail", "ts_unit": "day", "nodes": 3}"#)]).read();
    assert_eq!(stated(&set), csv_events());
    assert_eq!((set.sides, set.nodes, set.ids.external_ids()), (Sides::OneMode, 3, &[5, 7, 9][..]));
    assert_eq!((set.name.as_str(), set.time_unit.description.as_str(), set.time_unit.scale), ("mail", "day", 1));
    assert!(set.notices.is_empty(), "{:?}", set.notices);
}

#[test]
fn arrays_next_to_a_csv_replace_its_feature_columns() {
    let node_values: Vec<f32> = (0..10).flat_map(|id| [id as f32, 0.5]).collect();
    let (edges, nodes) = (npy_f32(3, &[1.0, 2.0, 3.0]), npy_f32(10, &node_values));
    let set = Folder::new(&[("edges.csv", CSV), ("edge_feat.npy", &edges), ("node_feat.npy", &nodes)]).read();
    assert_eq!(stated(&set).into_iter().map(|event| event.4).collect::<Vec<_>>(), [[1.0], [2.0], [3.0]]);
    assert_eq!(set.node_features.as_ref().unwrap().values(), [5.0, 0.5, 7.0, 0.5, 9.0, 0.5]);
    assert!(set.notices.iter().any(|notice| notice.contains("columns `a,b` were passed over")), "{:?}", set.notices);
    assert!(
        set.notices.iter().any(|notice| notice.contains("7 rows of node features dropped, for nodes without events")),
        "{:?}",
        set.notices
    );
}

#[test]
fn columns_are_known_by_name_in_any_order() {
    let set = Folder::new(&[("mine.csv", b"timestamp, w, target, source\n3, 0.5, 2, 1\n")]).read();
    assert_eq!(stated(&set), [(1, 2, 3, 0.0, vec![0.5])]);
    assert_eq!(set.sides, Sides::Bipartite { sources: 1 });
}

#[test]
fn jodie_users_and_items_are_apart_although_their_ids_are_equal() {
    let text = b"user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n0,0,0.0,0,0.5,1\n1,0,36.0,1,2,3\n0,1,77.0,0,4,5\n";
    let folder = Folder::new(&[("wiki.csv", text)]);
    let set = folder.read();
    assert_eq!(Format::detect(folder.path("wiki.csv")).unwrap(), Format::Jodie);
    assert_eq!(
        stated(&set),
        [(0, 0, 0, 0.0, vec![0.5, 1.0]), (1, 0, 36, 1.0, vec![2.0, 3.0]), (0, 1, 77, 0.0, vec![4.0, 5.0])]
    );
    assert_eq!(
        (set.sides, set.log.src(), set.log.dst()[0]),
        (Sides::Bipartite { sources: 2 }, &[0, 1, 0].map(NodeId)[..], NodeId(2))
    );
}

#[test]
fn tgn_padding_rows_belong_to_no_one_and_zero_node_features_are_dropped() {
    let text = b",u,i,ts,label,idx\n0,1,3,0.0,0.0,1\n1,2,3,5.0,1.0,2\n";
    let (edges, nodes) = (npy_f32(3, &[0.0, 0.0, 1.0, 2.0, 3.0, 4.0]), npy_f32(4, &[0.0; 8]));
    let folder = Folder::new(&[("ml_wiki.csv", text), ("ml_wiki.npy", &edges), ("ml_wiki_node.npy", &nodes)]);
    let set = folder.read();
    assert_eq!(Format::detect(folder.0.path()).unwrap(), Format::Tgn);
    assert_eq!(stated(&set), [(1, 3, 0, 0.0, vec![1.0, 2.0]), (2, 3, 5, 1.0, vec![3.0, 4.0])]);
    assert_eq!((set.node_features.is_none(), set.sides), (true, Sides::Bipartite { sources: 2 }));
    assert!(
        set.notices.iter().any(|notice| notice.contains("2 node features dropped, which were zero in all rows")),
        "{:?}",
        set.notices
    );
    let file_only = prepare(folder.path("ml_wiki.csv"), &PrepareOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!((file_only.checksum, file_only.name.as_str()), (set.checksum, "wiki"));
}

#[test]
fn tgl_features_follow_the_index_column() {
    let text = b",src,dst,time,ext_roll\n1,0,2,4.0,0\n0,1,2,9.0,2\n";
    let (edges, nodes) = (npy_f32(2, &[10.0, 20.0]), npy_f32(3, &[1.0, 2.0, 3.0]));
    let folder = Folder::new(&[
        ("edges.csv", text),
        ("edge_features.npy", &edges),
        ("node_features.npy", &nodes),
        ("labels.csv", b"x"),
    ]);
    let set = folder.read();
    assert_eq!(Format::detect(folder.0.path()).unwrap(), Format::Tgl);
    assert_eq!(stated(&set), [(0, 2, 4, 0.0, vec![20.0]), (1, 2, 9, 0.0, vec![10.0])]);
    assert_eq!(set.node_features.unwrap().values(), [1.0, 2.0, 3.0]);
}

#[test]
fn snap_text_is_read_plain_and_packed() {
    let text = b"# from to when\n9 8 1217567877\n1 1\t1217573801\n";
    let plain = Folder::new(&[("sx.txt", text)]).read();
    assert_eq!(stated(&plain), [(9, 8, 1217567877, 0.0, vec![]), (1, 1, 1217573801, 0.0, vec![])]);
    let zipped = Folder::new(&[("sx.txt.gz", &gzip(text))]).read();
    let zstd = Folder::new(&[("sx.txt.zst", &zstd::encode_all(&text[..], 1).unwrap())]).read();
    assert_eq!((&zipped.checksum, &zstd.checksum), (&plain.checksum, &plain.checksum));
    let packed_csv = Folder::new(&[("edges.csv.gz", &gzip(CSV))]).read();
    assert_eq!(stated(&packed_csv), csv_events());
}

/// `src` and `dst` 64-bit, `ts` double, an optional float feature that is null in the row `null`.
fn write_parquet(path: PathBuf, src: &[i64], dst: &[i64], ts: &[f64], weight: &[f32], null: Option<usize>) {
    let schema =
        "message events { required int64 src; required int64 dst; required double ts; optional float weight; }";
    let file = fs::File::create(path).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, parse_message_type(schema).unwrap().into(), Default::default()).unwrap();
    let half = src.len() / 2;
    for rows in [0..half, half..src.len()] {
        let mut group = writer.next_row_group().unwrap();
        for ids in [src, dst] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&ids[rows.clone()], None, None).unwrap();
            column.close().unwrap();
        }
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&ts[rows.clone()], None, None).unwrap();
        column.close().unwrap();
        let present: Vec<i16> = rows.clone().map(|row| i16::from(null != Some(row))).collect();
        let values: Vec<f32> = rows.clone().filter(|&row| null != Some(row)).map(|row| weight[row]).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<FloatType>().write_batch(&values, Some(&present), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_is_read_across_row_groups() {
    let folder = Folder::new(&[]);
    write_parquet(folder.path("e.parquet"), &[4, 4, 6], &[6, 5, 4], &[0.5, 1.0, 2.25], &[1.0, 2.0, 3.0], None);
    let set = folder.read();
    assert_eq!(Format::detect(folder.0.path()).unwrap(), Format::Parquet);
    assert_eq!(stated(&set), [(4, 6, 50, 0.0, vec![1.0]), (4, 5, 100, 0.0, vec![2.0]), (6, 4, 225, 0.0, vec![3.0])]);
    assert_eq!(set.time_unit.scale, 100);
}

#[test]
fn bad_parquet_is_refused_by_name() {
    let refusal = |src: &[i64], ts: &[f64], weight: &[f32], null| {
        let folder = Folder::new(&[]);
        write_parquet(folder.path("e.parquet"), src, &[6, 5, 4], ts, weight, null);
        folder.refusal()
    };
    let (src, ts, weight) = (&[4, 4, 6], &[0.0, 1.0, 2.0], &[1.0, 2.0, 3.0]);
    assert!(
        refusal(src, ts, weight, Some(2))
            .contains("e.parquet row 2: feature `weight` is missing (null); --missing drop")
    );
    assert!(refusal(&[4, 4, -6], ts, weight, None).contains("e.parquet row 2: source `-6` is negative"));
    assert!(refusal(src, &[0.0, f64::NAN, 1.0], weight, None).contains("row 1: time `ts` is missing (`NaN`)"));
    assert!(
        refusal(src, ts, &[1.0, f32::INFINITY, 0.0], None)
            .ends_with("row 1: feature `weight` is `inf`, which is not finite")
    );
    let folder = Folder::new(&[("e.parquet", b"PAR1 and then nothing of the kind")]);
    assert!(folder.refusal().contains("e.parquet: "), "{}", folder.refusal());
}

#[test]
fn no_flipped_bit_makes_the_parquet_reader_panic() {
    let folder = Folder::new(&[]);
    let path = folder.path("e.parquet");
    write_parquet(path.clone(), &[4, 4, 6], &[6, 5, 4], &[0.5, 1.0, 2.25], &[1.0, 2.0, 3.0], None);
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(5) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let _ = folder.prepare(&PrepareOptions::default());
    }
}

#[test]
fn bad_text_is_refused_with_file_row_and_value() {
    let whole = "src,dst,ts,label\n1,2,3,0\n";
    let cases = [
        ("1,2,x,0", "edges.csv row 3: timestamp `x` is not a number"),
        ("1,2,nan,0", "edges.csv row 3: time `ts` is missing (`nan`); --missing drop leaves such rows out"),
        ("1,2,1e40,0", "edges.csv row 3: timestamp `1e40` overflows 64-bit ticks"),
        ("1,-2,3,0", "edges.csv row 3: destination `-2` is negative"),
        ("1,,3,0", "edges.csv row 3: destination `dst` is missing (``); --missing drop leaves such rows out"),
        ("1,2,2024-01-01,0", "edges.csv row 3: timestamp `2024-01-01` is a date, and those before it are numbers"),
        ("1.5,2,3,0", "edges.csv row 3: source `1.5` is not a whole number"),
        ("1,2,3", "edges.csv row 3: 3 columns, not 4"),
        ("1,2,3,0,7,8", "edges.csv row 3: 6 columns, not 4"),
        ("1,2,3,inf", "edges.csv row 3: label `label` is `inf`, which is not finite"),
    ];
    for (row, expected) in cases {
        let refusal = Folder::new(&[("edges.csv", format!("{whole}{row}\n4,5,6,0\n").as_bytes())]).refusal();
        assert!(refusal.contains(expected), "{row}: {refusal}");
    }
}

#[test]
fn bad_features_are_refused_with_file_row_and_value() {
    let text = |value: &str| format!("src,dst,ts,label,w\n1,2,3,0,0.5\n1,2,4,0,{value}\n");
    let refusal = |value: &str| Folder::new(&[("edges.csv", text(value).as_bytes())]).refusal();
    assert!(refusal("NaN").ends_with("edges.csv row 3: feature `w` is missing (`NaN`); --missing drop leaves such rows out, --missing zero reads it as 0"));
    assert!(refusal("1e99").ends_with("feature `w` is `1e99`, which is not finite"));
    assert!(refusal("").contains("feature `w` is missing (``); --missing drop"));

    let csv = b"src,dst,ts,label\n1,2,3,0\n1,2,4,0\n";
    let beside = |array: &[u8]| Folder::new(&[("edges.csv", csv), ("edge_feat.npy", array)]).refusal();
    assert!(
        beside(&npy_f32(2, &[0.0, 1.0, 2.0, f32::NAN]))
            .ends_with("edge_feat.npy row 1: feature in column 1 is NaN as a 32-bit float")
    );
    assert!(beside(&npy_f32(3, &[0.0, 1.0, 2.0])).ends_with("edge_feat.npy: 3 rows of features for 2 events"));
    let whole = npy_f32(2, &[0.0, 1.0]);
    assert!(beside(&whole[..whole.len() - 3]).contains("truncated"));
    assert!(beside(&whole[..20]).contains("truncated in its header"));
    assert!(beside(&npy(">f4", "2, 1", &[0; 8])).contains("type `>f4` is not among the numbers read"));
    assert!(beside(&npy("<f4", "2, 1, 1", &[0; 8])).contains("shape (2, 1, 1) is not [rows, columns]"));
    let nodes = Folder::new(&[("edges.csv", csv), ("node_feat.npy", &npy_f32(2, &[1.0, 1.0]))]).refusal();
    assert!(nodes.ends_with("node_feat.npy: 2 rows, but node 2 appears in an event"), "{nodes}");
}

#[test]
fn broken_packing_is_refused() {
    let text: Vec<u8> =
        (0..5000).flat_map(|i| format!("{} {} {}\n", i % 7, i * 31 % 1000, i * i).into_bytes()).collect();
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let mut flipped = gzip(&text);
    let end = flipped.len() - 6;
    flipped[end] ^= 0xff;
    let zst = zstd::encode_all(&text[..], 1).unwrap();
    for (name, content, packing) in
        [("a.txt.gz", cut(&gzip(&text)), "gzip"), ("a.txt.gz", flipped, "gzip"), ("a.txt.zst", cut(&zst), "zstd")]
    {
        let refusal = Folder::new(&[(name, &content)]).refusal();
        assert!(refusal.contains(&format!("the {packing} stream is truncated or broken")), "{refusal}");
        assert!(refusal.contains(&format!("{name} row ")), "{refusal}");
    }
}

#[test]
fn sets_without_events_are_refused() {
    for content in
        [&b""[..], b"src,dst,ts,label\n", b"\n\n", b"# nothing\n", b"user_id,item_id,timestamp,state_label,f\n"]
    {
        let refusal = Folder::new(&[("edges.csv", content)]).refusal();
        assert!(refusal.ends_with("edges.csv: there are no events"), "{refusal}");
    }
    assert!(Folder::new(&[("notes.md", b"hello")]).refusal().contains("the folder has no .csv, .txt or .parquet file"));
    assert!(
        Folder::new(&[("a.csv", CSV), ("b.csv", CSV)])
            .refusal()
            .contains("a.csv, b.csv may each hold the events; name one")
    );
}

#[test]
fn the_first_bytes_of_an_unknown_format_are_shown() {
    let refusal = Folder::new(&[("x.csv", b"day,buyer,seller\n1,2,3\n")]).refusal();
    assert!(refusal.contains("x.csv row 1: no known format begins with `day,buyer,seller`"), "{refusal}");
    let options = PrepareOptions { format: Some(Format::Csv), ..Default::default() };
    let named = Folder::new(&[("x.csv", b"day,buyer,seller\n1,2,3\n")]).prepare(&options).unwrap_err().to_string();
    assert!(named.contains("0 of the columns `day,buyer,seller` are the source"), "{named}");
    assert_eq!(
        "jodei".parse::<Format>().unwrap_err().to_string().split(';').next(),
        Some("unknown format `jodei` (did you mean `jodie`?)")
    );
}

#[test]
fn tensors_in_pickles_are_refused_with_the_way_to_convert_them() {
    let folder = Folder::new(&[("edges.csv", b",src,dst,time,ext_roll\n0,0,1,4.0,0\n"), ("edge_features.pt", b"PK")]);
    assert!(
        folder.refusal().contains("numpy.save('edge_features.npy', torch.load('edge_features.pt').float().numpy())"),
        "{}",
        folder.refusal()
    );
}

#[test]
fn unsorted_times_are_sorted_with_a_notice_or_refused() {
    let folder = Folder::new(&[("edges.csv", b"src,dst,ts,w\n1,2,5,1\n1,3,4,2\n\n1,4,5,3\n1,5,4,4\n")]);
    let set = folder.read();
    assert_eq!(
        stated(&set).iter().map(|event| (event.1, event.4[0])).collect::<Vec<_>>(),
        [(3, 2.0), (5, 4.0), (2, 1.0), (4, 3.0)]
    );
    assert!(set.notices[0].starts_with("2 of 4 events, the first in row 3, were earlier"), "{:?}", set.notices);
    let refusal = folder.prepare(&PrepareOptions { strict: true, ..Default::default() }).unwrap_err().to_string();
    assert!(
        refusal.ends_with("edges.csv row 3: timestamp 4 comes after 5, and unsorted times are refused"),
        "{refusal}"
    );
}

#[test]
fn options_overrule_what_is_detected() {
    let folder = Folder::new(&[("e.csv", b"src,dst,ts\n1,2,0.5\n2,1,1\n")]);
    let options = PrepareOptions {
        bipartite: Some(true),
        time_scale: Some(10),
        time_unit: Some("h".into()),
        name: Some("mine".into()),
        ..Default::default()
    };
    let set = folder.prepare(&options).unwrap();
    assert_eq!((set.sides, set.nodes, set.name.as_str()), (Sides::Bipartite { sources: 2 }, 4, "mine"));
    assert_eq!((set.time_unit.scale, set.time_unit.description.as_str(), set.log.time()[0].0), (10, "h", 5));
    let zero = folder.prepare(&PrepareOptions { time_scale: Some(0), ..Default::default() }).unwrap_err();
    assert!(zero.to_string().contains("a time scale of 0"));
}

#[test]
fn times_beyond_nine_decimals_are_rounded_with_a_notice() {
    let set = Folder::new(&[("e.csv", b"src,dst,ts\n1,2,0.0\n1,2,0.10101010101010101\n1,2,1.0\n")]).read();
    assert_eq!(set.log.time().iter().map(|time| time.0).collect::<Vec<_>>(), [0, 101010101, 1_000_000_000]);
    assert!(
        set.notices.iter().any(|notice| notice.contains("1 time finer than a tick of 1/1000000000 unit was rounded")),
        "{:?}",
        set.notices
    );
}

#[test]
fn progress_ends_at_the_size_of_the_file() {
    let text = (0..20_000).map(|i| format!("{} {} {i}\n", i % 5, i % 3)).collect::<String>();
    let folder = Folder::new(&[("e.txt", text.as_bytes())]);
    let mut reports = Vec::new();
    prepare(folder.path("e.txt"), &PrepareOptions::default(), &mut |done, total| reports.push((done, total))).unwrap();
    assert!(reports.len() > 2 && reports.is_sorted(), "{reports:?}");
    assert_eq!(reports.last(), Some(&(text.len() as u64, text.len() as u64)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The feature `n` counts the rows of the file, so the stable order is visible.
    #[test]
    fn preparing_is_a_stable_sort_that_keeps_every_event(
        rows in prop::collection::vec((0u64..30, prop_oneof![0u64..30, any::<u64>()], -20i64..20), 1..60),
        bipartite in any::<Option<bool>>(),
    ) {
        let line = |(n, (src, dst, time)): (usize, &(u64, u64, i64))| format!("{src},{dst},{time},0,{}\n", n + 1);
        let text = format!("src,dst,ts,label,n\n{}", rows.iter().enumerate().map(line).collect::<String>());
        let set = Folder::new(&[("edges.csv", text.as_bytes())]).prepare(&PrepareOptions { bipartite, ..Default::default() }).unwrap();
        let mut expected: Vec<Told> = rows.iter().zip(1..).map(|(&(src, dst, time), n)| (src, dst, time, 0.0, vec![n as f32])).collect();
        expected.sort_by_key(|event| event.2);
        prop_assert_eq!(stated(&set), expected);
        for event in set.log.batch(0..set.log.len()).events() {
            prop_assert_eq!(set.ids.source(set.ids.external_id(event.src)), Ok(event.src));
            prop_assert_eq!(set.ids.destination(set.ids.external_id(event.dst)), Ok(event.dst));
        }
        let ascending = set.ids.external_ids().is_sorted() || set.sides != Sides::OneMode;
        prop_assert!(ascending);
    }

    #[test]
    fn no_bytes_make_the_readers_panic(content in prop::collection::vec(any::<u8>(), 0..200), format in 0usize..10) {
        let folder = Folder::new(&[("edges.csv", &content), ("edge_feat.npy", &content)]);
        let _ = folder.prepare(&PrepareOptions { format: Some(Format::ALL[format]), ..Default::default() });
        let _ = folder.prepare(&PrepareOptions::default());
    }
}
