//! Events as people have them: each case is read as what it is, or refused with advice.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tempograph_framework::{
    ColumnRoles, Dataset, Delimiter, Encoding, Format, Missing, NodeId, PrepareOptions, Prepared, Side, Sides,
    prepare_files,
};

struct Place(tempfile::TempDir);

impl Place {
    fn with(name: &str, content: impl AsRef<[u8]>) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write(name, content);
        place
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn try_read(name: &str, content: impl AsRef<[u8]>, options: &PrepareOptions) -> Result<Prepared, String> {
    let place = Place::with(name, content);
    prepare_files(&[place.path(name)], options, &mut |_, _| {}).map_err(|error| error.to_string())
}

fn read_with(name: &str, content: impl AsRef<[u8]>, options: &PrepareOptions) -> Prepared {
    try_read(name, content, options).unwrap()
}

fn read(name: &str, content: impl AsRef<[u8]>) -> Prepared {
    read_with(name, content, &PrepareOptions::default())
}

fn refusal(name: &str, content: impl AsRef<[u8]>) -> String {
    try_read(name, content, &PrepareOptions::default()).unwrap_err()
}

/// Source, destination, ticks, label and features of each event in the user's words.
fn context(set: &Dataset) -> Vec<(String, String, i64, f32, Vec<f32>)> {
    let features = |id: u64| set.log.features().map_or(Vec::new(), |rows| rows.row(id).to_vec());
    let tell = |event: tempograph_framework::Event| {
        let name = |node| set.ids.name(node).into_owned();
        (name(event.src), name(event.dst), event.time.0, event.label, features(event.id.0))
    };
    set.log.batch(0..set.log.len()).events().map(tell).collect()
}

fn ends(set: &Dataset) -> Vec<(String, String, i64)> {
    context(set).into_iter().map(|event| (event.0, event.1, event.2)).collect()
}

fn events(list: &[(&str, &str, i64)]) -> Vec<(String, String, i64)> {
    list.iter().map(|&(src, dst, time)| (src.into(), dst.into(), time)).collect()
}

fn role(prepared: &Prepared, name: &str) -> &'static str {
    prepared.reading.columns.iter().find(|column| column.0 == name).unwrap().1
}

fn notice(prepared: &Prepared, part: &str) -> bool {
    prepared.dataset.notices.iter().any(|notice| notice.contains(part))
}

fn roles(src: &str, dst: &str, time: &str) -> ColumnRoles {
    ColumnRoles { src: Some(src.into()), dst: Some(dst.into()), time: Some(time.into()), ..ColumnRoles::default() }
}

#[test]
fn a_label_is_what_is_called_so_wherever_it_stands() {
    for header in ["user_id,item_id,timestamp,f1,f2,state_label", "user_id,item_id,timestamp,f1,weight,label"] {
        let read = read("a.csv", format!("{header}\n0,0,1,0.5,2,1\n1,1,2,0.25,3,0\n"));
        let labels: Vec<f32> = context(&read.dataset).iter().map(|event| event.3).collect();
        assert_eq!((labels, context(&read.dataset)[0].4.clone()), (vec![1.0, 0.0], vec![0.5, 2.0]), "{header}");
        assert_eq!(read.reading.format, Format::Csv);
        assert_eq!(read.dataset.extras.features.len(), 2);
    }
    let rated = read("a.csv", "user_id,item_id,timestamp,rating\n0,0,1,5\n1,1,2,3\n");
    assert_eq!((role(&rated, "rating"), context(&rated.dataset)[0].3), ("feature", 0.0));
    let placed = read("a.csv", "src,dst,ts,x,y\n0,1,1,5,6\n");
    assert_eq!((role(&placed, "y"), role(&placed, "x")), ("feature", "feature"));
    let alone = read("a.csv", "src,dst,ts,y\n0,1,1,1\n");
    assert_eq!((role(&alone, "y"), context(&alone.dataset)[0].3), ("label", 1.0));
    let two = refusal("a.csv", "src,dst,ts,label,y\n0,1,1,5,6\n");
    assert!(
        two.contains("2 of the columns `src,dst,ts,label,y` are the label, not one: `label` and `y`; --label NAME"),
        "{two}"
    );
}

#[test]
fn columns_that_number_the_rows_are_not_features_unless_requested() {
    for name in ["id", "event_id", "", "Unnamed: 0", "index", "row_id"] {
        let text = format!("{name},src,dst,ts,w\n10,0,1,1,0.5\n11,1,0,2,0.25\n");
        let set = read("a.csv", &text);
        assert_eq!((set.dataset.edge_width(), role(&set, name)), (1, "not read"), "{name}");
        assert!(set.reading.to_string().contains("numbers the rows"), "{}", set.reading);
    }
    let options = PrepareOptions {
        columns: ColumnRoles { features: Some(vec!["id".into()]), ..ColumnRoles::default() },
        ..PrepareOptions::default()
    };
    let asked = read_with("a.csv", "id,src,dst,ts,w\n10,0,1,1,0.5\n", &options);
    assert_eq!((context(&asked.dataset)[0].4.clone(), role(&asked, "w")), (vec![10.0], "not read"));
}

#[test]
fn two_columns_for_one_role_or_of_one_name_are_refused_with_advice() {
    for (text, part) in [
        ("src,source,dst,ts\n1,1,2,3\n", "`src` and `source`; --src NAME says which is"),
        ("src,dst,target,ts\n1,1,2,3\n", "`dst` and `target`; --dst NAME says which is"),
        ("src,dst,ts,time\n1,1,2,3\n", "`ts` and `time`; --ts NAME says which is"),
        ("src,dst,ts,w,w\n1,1,2,3,4\n", "two of the columns `src,dst,ts,w,w` are called `w`"),
        ("src,dst\n1,2\n", "0 of the columns `src,dst` are the time, not one; --ts NAME says which is, or --row-order"),
    ] {
        let refused = refusal("a.csv", text);
        assert!(refused.contains(part), "{refused}");
    }
    let misnamed = PrepareOptions { columns: roles("usr", "item", "ts"), ..PrepareOptions::default() };
    let refused = try_read("a.csv", "user,item,ts\n1,2,3\n", &misnamed).unwrap_err();
    assert!(
        refused.contains("there is no column `usr` (did you mean `user`?); the columns are `user,item,ts`"),
        "{refused}"
    );
}

#[test]
fn users_and_items_with_equal_ids_are_kept_apart() {
    let text = "user_id,item_id,ts\n0,0,1\n1,0,2\n0,1,3\n2,1,4\n";
    let set = read("a.csv", text);
    assert_eq!((set.dataset.nodes, set.dataset.sides), (5, Sides::Bipartite { sources: 3 }));
    assert!(set.reading.nodes.contains("name two kinds"), "{}", set.reading.nodes);
    let joined = read_with("a.csv", text, &PrepareOptions { bipartite: Some(false), ..PrepareOptions::default() });
    assert_eq!(joined.dataset.nodes, 3);
}

#[test]
fn columns_that_do_not_say_whether_ids_are_shared_need_an_answer() {
    let options = PrepareOptions { columns: roles("buyer", "seller", "day"), ..PrepareOptions::default() };
    let text = "buyer,seller,day\n0,0,1\n1,0,2\n0,1,3\n";
    let asked = try_read("a.csv", text, &options).unwrap_err();
    assert!(
        asked.contains("2 of 2 ids are on both sides")
            && asked.contains("--bipartite true keeps them apart, --shared-ids"),
        "{asked}"
    );
    let apart = read_with("a.csv", text, &PrepareOptions { bipartite: Some(true), ..options.clone() });
    assert_eq!(apart.dataset.nodes, 4);
    let names = read_with("a.csv", "buyer,seller,day\nann,bob,1\nbob,ann,2\n", &options);
    assert_eq!(names.dataset.sides, Sides::OneMode, "names that are on both sides are one kind");
}

#[test]
fn a_guess_that_a_set_is_bipartite_is_said_aloud() {
    let guess = read("a.txt", "1 2 10\n1 4 11\n3 2 12\n3 4 13\n");
    assert!(notice(&guess, "taken for two kinds of nodes; --shared-ids takes them for one"));
    let shared = PrepareOptions { bipartite: Some(false), ..PrepareOptions::default() };
    assert_eq!(read_with("a.txt", "1 2 10\n1 4 11\n3 2 12\n3 4 13\n", &shared).dataset.sides, Sides::OneMode);
}

#[test]
fn contacts_of_sociopatterns_begin_with_their_time() {
    let text = "31220 1558 1567\n31220 1560 1570\n31240 1558 1567\n31240 1567 1574\n31260 1632 1558\n";
    let set = read("a.dat", text);
    assert_eq!(
        (set.reading.format, set.dataset.log.time()[0].0, set.dataset.sides),
        (Format::Sociopatterns, 31220, Sides::OneMode)
    );
    assert!(notice(&set, "the first column is the time, a guess"));
    let named = PrepareOptions { format: Some(Format::Sociopatterns), ..PrepareOptions::default() };
    assert_eq!(ends(&read_with("a.txt", "31220\t1558\t1567\n", &named).dataset), events(&[("1558", "1567", 31220)]));
    let classes = read("a.txt", "20\t1558\t1567\tMED\tNUR\n40\t1567\t1558\tNUR\tMED\n");
    assert_eq!(context(&classes.dataset)[0].4, [1.0, 0.0, 0.0, 1.0]);
    let snap = read("a.txt", "1 2 30\n1 3 40\n2 1 50\n");
    assert_eq!(snap.reading.format, Format::Snap);
    let unknown = refusal("a.txt", "1 200 30\n1 300 20\n2 400 10\n");
    assert!(unknown.contains("--format snap or --format sociopatterns says so"), "{unknown}");
}

#[test]
fn konect_weights_are_distinguished_from_times() {
    let weighted = read("out.x", "% sym weighted\n% 2 3 3\n1 2 5\n2 3 7\n");
    assert_eq!(
        context(&weighted.dataset),
        [("1".into(), "2".into(), 0, 0.0, vec![5.0]), ("2".into(), "3".into(), 1, 0.0, vec![7.0])]
    );
    assert!(notice(&weighted, "no column is the time: the order of the rows is taken"));
    let all = read("out.x", "% asym positive\n1 2 5 1200000000\n2 3 7 1200000500\n");
    assert_eq!((ends(&all.dataset)[1].2, context(&all.dataset)[1].4.clone()), (1_200_000_500, vec![7.0]));
    let swapped = read("out.x", "% asym positive\n1 2 1200000000 5\n2 3 1200000500 7\n");
    assert_eq!((ends(&swapped.dataset)[1].2, context(&swapped.dataset)[1].4.clone()), (1_200_000_500, vec![7.0]));
    assert!(swapped.reading.how.contains("`u v t w`"), "{}", swapped.reading.how);
    let bare = read("out.x", "% bip unweighted\n1 1\n2 1\n");
    assert_eq!((bare.dataset.nodes, bare.dataset.sides), (3, Sides::Bipartite { sources: 2 }));
    let named = PrepareOptions { format: Some(Format::Konect), ..PrepareOptions::default() };
    assert_eq!(ends(&read_with("a.txt", "1 2 3 4\n", &named).dataset), events(&[("1", "2", 4)]));
}

#[test]
fn delimiters_quotes_and_comments_are_read_as_what_they_are() {
    let expected = events(&[("ann", "bob, jr", 3), ("bob, jr", "cy", 4)]);
    for text in [
        "src,dst,ts\nann,\"bob, jr\",3\n\"bob, jr\",cy,4\n",
        "src\tdst\tts\nann\tbob, jr\t3\nbob, jr\tcy\t4\n",
        "src;dst;ts\nann;bob, jr;3\n\"bob, jr\";cy;4\n",
        "src|dst|ts\r\nann|bob, jr|3\r\nbob, jr|cy|4\r\n",
        "src  dst ts\nann \"bob, jr\"  3\n\"bob, jr\"\tcy 4\n",
        "# made by hand\n# 2024\nsrc,dst,ts\nann,\"bob, jr\",3\n# half\n\"bob, jr\",cy,4\n",
        "# src,dst,ts\nann,\"bob, jr\",3\n\n\"bob, jr\",cy,4",
        "\u{feff}\"src\",\"dst\",\"ts\"\n\"ann\",\"bob, jr\",\"3\"\n\"bob, jr\",\"cy\",\"4\"\n",
    ] {
        assert_eq!(ends(&read("a.csv", text).dataset), expected, "{text}");
    }
    let given = PrepareOptions { delimiter: Some(Delimiter::Byte(b':')), ..PrepareOptions::default() };
    assert_eq!(ends(&read_with("a.csv", "src:dst:ts\n1:2:3\n", &given).dataset), events(&[("1", "2", 3)]));
    let open = refusal("a.csv", "src,dst,ts\n1,2,3\n\"1,2,3\n4,5,6\n");
    assert!(open.contains("a.csv row 3: a quote is opened in this row and never closed"), "{open}");
    let named = read("a.csv", "src,dst,ts\n#tag,b,1\nc,#tag,2\n");
    assert_eq!(ends(&named.dataset)[0].0, "#tag", "a name may begin with the sign of a comment");
}

#[test]
fn a_value_in_quotes_may_hold_a_line_end_and_rows_are_counted_on() {
    let set = read("a.csv", "src,dst,ts\n\"a\nb\",c,1\nc,\"d \"\"e\"\"\",2\n");
    assert_eq!(ends(&set.dataset), events(&[("a\nb", "c", 1), ("c", "d \"e\"", 2)]));
    let refused = refusal("a.csv", "src,dst,ts\n\"a\nb\",c,1\nc,d,x\n");
    assert!(refused.contains("a.csv row 4: timestamp `x`"), "{refused}");
}

#[test]
fn ends_of_edges_and_targets_are_stored_in_the_order_of_the_events() {
    let columns = ColumnRoles {
        end: Some("until".into()),
        targets: vec!["price".into(), "mark".into()],
        ..ColumnRoles::default()
    };
    let options = PrepareOptions { columns, ..PrepareOptions::default() };
    let text = "src,dst,ts,until,price,mark,w\n1,2,5,7.25,0.5,3,9\n2,3,4,4,1.5,2,8\n";
    let set = read_with("a.csv", text, &options).dataset;
    let place = tempfile::tempdir().unwrap();
    set.write(place.path().join("set")).unwrap();
    let opened = Dataset::open(place.path().join("set")).unwrap();
    opened.verify().unwrap();
    // Sorted by time; the finest end sets the scale of all times.
    assert_eq!(opened.time_unit.scale, 100);
    assert_eq!(opened.log.time().iter().map(|time| time.0).collect::<Vec<_>>(), [400, 500]);
    assert_eq!(opened.extras.end().unwrap().iter().map(|time| time.0).collect::<Vec<_>>(), [400, 725]);
    assert_eq!(opened.extras.target_names, ["price", "mark"]);
    assert_eq!(opened.extras.targets.as_ref().unwrap().values(), [1.5, 2.0, 0.5, 3.0]);
    assert_eq!((context(&opened)[0].4.clone(), opened.extras.features.clone()), (vec![8.0], vec!["w".to_string()]));
    let beside = Place::with("b.csv", text);
    beside.write("b.toml", "end = \"until\"\ntarget = [\"price\", \"mark\"]\n");
    let read = prepare_files(&[beside.path("b.csv")], &PrepareOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!(read.dataset.checksum, set.checksum);
    let early = try_read("a.csv", "src,dst,ts,until,price,mark\n1,2,5,4,0,0\n", &options).err().unwrap();
    assert!(early.contains("row 2: the end `4` is before the time of the event (column `until`)"), "{early}");
    let open = try_read("a.csv", "src,dst,ts,until,price,mark\n1,2,5,,0,0\n", &options).err().unwrap();
    assert!(open.contains("end of the edge `until` is missing"), "{open}");
}

#[test]
fn packed_binary_files_are_refused_with_what_to_do() {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, b"PAR1 and what follows").unwrap();
    let refused = refusal("a.parquet.gz", packer.finish().unwrap());
    assert!(refused.contains("a.parquet.gz: the file is parquet packed with gzip; unpack it"), "{refused}");
}

#[test]
fn frames_of_pandas_polars_and_spark_in_parquet_are_the_same_events() {
    let zero = PrepareOptions { missing: Some(Missing::Zero), ..PrepareOptions::default() };
    for (name, unit, ticks) in [("pandas", "us", 1_000_000), ("polars", "ms", 1000), ("spark", "ns", 1_000_000_000)] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/parquet/{name}.parquet"));
        let set = prepare_files(&[path], &zero, &mut |_, _| {}).unwrap().dataset;
        let first = 1_709_251_200 * ticks;
        let expected = events(&[("ann", "x", first), ("bob", "y", first + ticks), ("ann", "y", first + ticks)]);
        assert_eq!((ends(&set), set.time_unit.description.as_str()), (expected, unit), "{name}");
        let labels: Vec<f32> = context(&set).iter().map(|event| event.3).collect();
        let weights: Vec<f32> = context(&set).iter().map(|event| event.4[0]).collect();
        assert_eq!((labels, weights), (vec![1.0, 0.0, 1.0], vec![0.5, 0.0, 2.0]), "{name}");
    }
}

#[test]
fn recbole_headers_tell_types() {
    let set = read(
        "ml.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n186\t196\t3\t891717742\n",
    );
    assert_eq!(
        (set.reading.format, set.dataset.sides, set.dataset.edge_width()),
        (Format::Recbole, Sides::Bipartite { sources: 2 }, 1)
    );
    assert_eq!(set.dataset.time_unit.description, "s");
    let refused = refusal("ml.inter", "user_id:token\titem_id:token\ttimestamp:float\tgenre:token\n1\t2\t3\t4\n");
    assert!(refused.contains("column `genre` is of the type token: --categorical genre"), "{refused}");
}

#[test]
fn jodie_may_lack_labels_and_features_and_a_header_of_others_is_not_its() {
    let jodie = PrepareOptions { format: Some(Format::Jodie), ..PrepareOptions::default() };
    let three = read_with("a.csv", "user_id,item_id,timestamp\n0,0,1\n1,0,2\n", &jodie);
    assert_eq!((three.dataset.nodes, three.dataset.sides), (3, Sides::Bipartite { sources: 2 }));
    let refused = try_read("a.csv", "user_id,item_id,timestamp,f1,f2,state_label\n0,0,1,2,3,4\n", &jodie).unwrap_err();
    assert!(refused.contains("column 4 is `f1`, and `state_label` in JODIE's format; --format csv"), "{refused}");
    let refused = try_read("a.csv", "src,dst,ts\n0,0,1\n", &jodie).unwrap_err();
    assert!(refused.contains("column 1 is `src`"), "{refused}");
}

#[test]
fn text_ids_are_kept_and_opened_again() {
    let set = read("a.csv", "user,item,ts\nzoë,7,1\nann,7,2\nann,x y,3\n").dataset;
    assert!(set.ids.is_text());
    let home = tempfile::tempdir().unwrap();
    set.write(home.path().join("set")).unwrap();
    let opened = Dataset::open(home.path().join("set")).unwrap();
    opened.verify().unwrap();
    assert_eq!(ends(&opened), events(&[("zoë", "7", 1), ("ann", "7", 2), ("ann", "x y", 3)]));
    assert_eq!(opened.ids.find(Side::Source, "ann"), Ok(NodeId(0)));
    assert_eq!(opened.ids.find(Side::Destination, "x y"), Ok(NodeId(3)));
    assert!(opened.ids.find(Side::Source, "7").is_err());
    let exact = PrepareOptions { text_ids: true, ..PrepareOptions::default() };
    assert_eq!(ends(&read_with("a.csv", "src,dst,ts\n-1,2.50,3\n", &exact).dataset), events(&[("-1", "2.50", 3)]));
}

#[test]
fn whole_ids_stay_numbers_and_those_beyond_64_bits_are_not_rounded() {
    let set = read("a.csv", "src,dst,ts\n18446744073709551615,9007199254740993,1\n").dataset;
    assert_eq!((set.ids.is_text(), ends(&set)), (false, events(&[("18446744073709551615", "9007199254740993", 1)])));
    let wide =
        read("a.csv", "src,dst,ts\n18446744073709551616,18446744073709551617,1\n18446744073709551617,5,2\n").dataset;
    assert_eq!((wide.nodes, ends(&wide)[0].0.as_str()), (3, "18446744073709551616"));
    let padded = read("a.csv", "src,dst,ts\n007,7,1\n").dataset;
    assert_eq!(padded.nodes, 2, "007 and 7 are two ids");
}

#[test]
fn dates_are_read_with_their_zones_and_their_unit_is_seconds() {
    let set = read("a.csv", "src,dst,when\na,b,2024-03-01T00:00:00+01:00\nb,a,2024-02-29T23:00:00.5Z\n");
    assert_eq!(ends(&set.dataset), events(&[("a", "b", 17_092_476_000), ("b", "a", 17_092_476_005)]));
    assert_eq!((set.dataset.time_unit.scale, set.dataset.time_unit.description.as_str()), (10, "s"));
    assert!(set.reading.time.starts_with("2024-02-29 23:00:00 to 2024-02-29 23:00:00 UTC"), "{}", set.reading.time);
    let plain = read("a.csv", "src,dst,date\na,b,2024-03-01 10:00:00\n");
    assert!(notice(&plain, "the dates have no zone and were read as UTC"));
    let local = refusal("a.csv", "src,dst,date\na,b,31.01.2024\n");
    assert!(
        local.contains("a.csv row 2: timestamp `31.01.2024` is not a number or a date of ISO 8601")
            && local.contains("day or month"),
        "{local}"
    );
}

#[test]
fn clocks_of_every_unit_are_integers_from_end_to_end_and_their_unit_is_printed() {
    for (time, unit) in [
        (1_700_000_013, "s"),
        (1_700_000_013_721, "ms"),
        (1_700_000_013_721_497, "us"),
        (1_700_000_013_721_497_601, "ns"),
    ] {
        let set = read("a.csv", format!("src,dst,ts\n1,2,{time}\n2,1,{}\n", time + 1));
        assert_eq!((set.dataset.log.time()[0].0, set.dataset.log.time()[1].0), (time, time + 1));
        assert_eq!(set.dataset.time_unit.description, unit);
        assert!(
            set.reading.time.contains("2023-11-14 22:13:33") && set.reading.time.contains("a guess"),
            "{}",
            set.reading.time
        );
    }
    let beyond = refusal("a.csv", "src,dst,ts\n1,2,9223372036854775808\n");
    assert!(beyond.contains("a.csv row 2: timestamp `9223372036854775808` overflows 64-bit ticks"), "{beyond}");
    assert!(notice(&read("a.csv", "src,dst,ts\n1,2,20240131\n"), "look like dates"));
}

#[test]
fn categories_become_columns_or_an_index_by_a_stated_rule() {
    let text = "src,dst,ts,action,w\n1,2,3,view,0.5\n2,1,4,buy,0.25\n1,2,5,view,1\n";
    let refused = refusal("a.csv", text);
    assert!(
        refused.contains("row 2: feature `action` is `view`, which is not a number; --categorical action")
            && refused.contains("--drop action"),
        "{refused}"
    );
    let columns = ColumnRoles { categorical: vec!["action".into()], ..ColumnRoles::default() };
    let options = PrepareOptions { columns, ..PrepareOptions::default() };
    let hot = read_with("a.csv", text, &options).dataset;
    assert_eq!(hot.extras.features, ["action=buy", "action=view", "w"]);
    assert_eq!(context(&hot)[0].4, [0.0, 1.0, 0.5]);
    let index =
        read_with("a.csv", text, &PrepareOptions { encoding: Some(Encoding::Index), ..options.clone() }).dataset;
    assert_eq!((context(&index)[0].4.clone(), context(&index)[1].4.clone()), (vec![2.0, 0.5], vec![1.0, 0.25]));
    let many: String = (0..65).map(|i| format!("1,2,{i},kind{i},0\n")).collect();
    let refused = try_read("a.csv", format!("src,dst,ts,action,w\n{many}"), &options).unwrap_err();
    assert!(
        refused.contains("row 66: category `kind64` is value 65") && refused.contains("--encoding index"),
        "{refused}"
    );
}

#[test]
fn labels_that_are_words_are_classes_in_the_manifest() {
    let set = read("a.csv", "src,dst,ts,label\n1,2,3,spam\n2,1,4,ham\n").dataset;
    assert_eq!(
        (set.log.label(), set.extras.classes.as_slice()),
        ([1.0, 0.0].as_slice(), ["ham", "spam"].map(String::from).as_slice())
    );
    let home = tempfile::tempdir().unwrap();
    set.write(home.path().join("set")).unwrap();
    assert_eq!(Dataset::open(home.path().join("set")).unwrap().extras.classes, ["ham", "spam"]);
}

#[test]
fn missing_values_are_refused_dropped_or_read_as_zero() {
    let text = "src,dst,ts,w\n1,2,3,0.5\n2,1,4,\n1,,5,NA\n1,2,6,1\n";
    let refused = refusal("a.csv", text);
    assert!(
        refused
            .contains("a.csv row 3: feature `w` is missing (``); --missing drop leaves such rows out, --missing zero"),
        "{refused}"
    );
    let with = |missing| PrepareOptions { missing: Some(missing), ..PrepareOptions::default() };
    let dropped = read_with("a.csv", text, &with(Missing::Drop));
    assert_eq!((dropped.dataset.log.len(), dropped.reading.rows), (2, 4));
    assert!(notice(&dropped, "2 rows with missing values were left out, the first row 3, where `w` is missing"));
    let refused = try_read("a.csv", text, &with(Missing::Zero)).unwrap_err();
    assert!(refused.contains("row 4: destination `dst` is missing"), "an id has no zero: {refused}");
    let zeroed = read_with("a.csv", "src,dst,ts,w\n1,2,3,0.5\n2,1,4,\n", &with(Missing::Zero));
    assert_eq!(context(&zeroed.dataset)[1].4, [0.0]);
    assert!(notice(&zeroed, "1 missing value was read as 0"));
}

#[test]
fn whole_features_that_floats_round_are_reported() {
    let set = read("a.csv", "src,dst,ts,amount\n1,2,3,16777216\n2,1,4,16777217\n");
    assert!(notice(&set, "1 value of `amount`, the first `16777217` in row 3, rounded"));
    assert!(!notice(&read("a.csv", "src,dst,ts,amount\n1,2,3,16777216\n"), "rounded"));
}

#[test]
fn roles_can_be_given_in_a_file_next_to_the_events() {
    let place = Place::with("events.csv", "who;what;when;kind;junk\nann;x;2024-01-01;a;1\nbob;x;2024-01-02;b;2\n");
    place.write(
        "events.toml",
        "src = \"who\"\ndst = \"what\"\nts = \"when\"\ncategorical = [\"kind\"]\ndrop = [\"junk\"]\nbipartite = true\n",
    );
    let told_by = |options: &PrepareOptions| prepare_files(&[place.path("events.csv")], options, &mut |_, _| {});
    let set = told_by(&PrepareOptions::default()).unwrap();
    assert_eq!((set.dataset.nodes, set.dataset.extras.features.len()), (3, 2));
    assert!(set.reading.how.contains("events.toml says"), "{}", set.reading.how);
    place.write("other.toml", "src = \"who\"\ndestination = \"what\"\n");
    let refused =
        told_by(&PrepareOptions { columns_file: Some(place.path("other.toml")), ..PrepareOptions::default() });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("other.toml: ") && refused.contains("destination"), "{refused}");
    place.write("events.toml", "[data]\npath = \"x\"\n");
    let refused = told_by(&PrepareOptions::default()).unwrap_err().to_string();
    assert!(
        refused.contains("no known format begins with `who,what,when,kind,junk`"),
        "a spec is no file of roles: {refused}"
    );
}

#[test]
fn several_files_are_read_in_order_with_one_header() {
    let place = Place::with("a.csv", "src,dst,ts\n1,2,3\n");
    let (a, b) = (place.path("a.csv"), place.write("b.csv", "src,dst,ts\n2,3,4\n"));
    let bare = place.write("c.csv", "3,1,5\n");
    let read = |paths: &[PathBuf]| prepare_files(paths, &PrepareOptions::default(), &mut |_, _| {});
    let set = read(&[a.clone(), b, bare]).unwrap();
    assert_eq!(ends(&set.dataset), events(&[("1", "2", 3), ("2", "3", 4), ("3", "1", 5)]));
    assert!(set.reading.how.contains("3 files in order"), "{}", set.reading.how);
    let other = place.write("d.csv", "dst,src,ts\n2,3,4\n");
    let refused = read(&[a, other]).unwrap_err().to_string();
    assert!(
        refused.contains("d.csv row 1: the header is `dst,src,ts`, and that of the first file `src,dst,ts`"),
        "{refused}"
    );
}

#[test]
fn a_file_without_events_is_refused_with_the_way_to_convert_it() {
    for (name, content, part) in [
        ("spec.toml", &b"[data]\npath = \"data/x\"\n"[..], "`tempograph train` reads it"),
        ("a.json", b"{\"src\": 1}\n", "JSON is not read"),
        ("a.pkl", b"\x80\x04\x95", "a pickle"),
        ("a.npz", b"PK\x03\x04", "a zip archive"),
        ("a.npy", b"\x93NUMPY\x01", "an array of numpy"),
        ("a.xz", b"\xfd7zXZ\x00\x00", "packed with xz"),
        ("a.csv", b"\xff\xfes\x00", "UTF-16"),
        ("a.csv", b"src,dst,ts\r1,2,3\r", "a carriage return"),
        ("a.html", b"<html>\n", "was the download refused"),
        ("a.csv", b"1,2\n", "--row-order takes the order of the rows"),
        ("a.csv", b"1,2,3,4\n", "--src 1 --dst 2 --ts 4"),
        ("a.csv", b"src,dst,ts\nb\xe9,c,1\n", "is not UTF-8"),
    ] {
        let refused = refusal(name, content);
        assert!(refused.contains(part) && refused.contains(name), "{refused}");
    }
    let places = PrepareOptions { columns: roles("1", "2", "4"), ..PrepareOptions::default() };
    let read = read_with("a.csv", "1,2,3,4\n2,3,4,5\n", &places).dataset;
    assert_eq!((ends(&read), context(&read)[0].4.clone()), (events(&[("1", "2", 4), ("2", "3", 5)]), vec![3.0]));
}

/// Parquet with the columns of `schema`, each written by its place.
fn parquet(schema: &str, compression: Compression, write: impl Fn(usize, &mut ColumnWriter<'_>)) -> Vec<u8> {
    let properties = WriterProperties::builder().set_compression(compression).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut at = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        write(at, column.untyped());
        column.close().unwrap();
        at += 1;
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

fn put(column: &mut ColumnWriter<'_>, values: &[i64]) {
    match column {
        ColumnWriter::Int32ColumnWriter(writer) => {
            writer.write_batch(&values.iter().map(|&value| value as i32).collect::<Vec<_>>(), None, None).unwrap();
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            writer.write_batch(values, None, None).unwrap();
        }
        ColumnWriter::FloatColumnWriter(writer) => {
            writer.write_batch(&values.iter().map(|&value| value as f32).collect::<Vec<_>>(), None, None).unwrap();
        }
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let texts: Vec<ByteArray> =
                values.iter().map(|value| ByteArray::from(format!("n{value}").as_str())).collect();
            writer.write_batch(&texts, None, None).unwrap();
        }
        ColumnWriter::FixedLenByteArrayColumnWriter(writer) => {
            let bytes = |value: &i64| FixedLenByteArray::from(i128::from(*value).to_be_bytes()[7..].to_vec());
            writer.write_batch(&values.iter().map(bytes).collect::<Vec<_>>(), None, None).unwrap();
        }
        ColumnWriter::Int96ColumnWriter(writer) => {
            let time = |&value: &i64| {
                let mut time = Int96::new();
                let (days, rest) = (value / 86_400 + 2_440_588, (value % 86_400) as u64 * 1_000_000_000);
                time.set_data(rest as u32, (rest >> 32) as u32, days as u32);
                time
            };
            writer.write_batch(&values.iter().map(time).collect::<Vec<_>>(), None, None).unwrap();
        }
        _ => unreachable!(),
    }
}

#[test]
fn decimals_of_parquet_are_values_and_not_their_digits() {
    let schema = "message m { required int32 src (INTEGER(8,true)); required int64 dst (DECIMAL(9,0)); required int64 ts (DECIMAL(18,6)); required fixed_len_byte_array(9) amount (DECIMAL(20,2)); }";
    let file = parquet(schema, Compression::SNAPPY, |at, column| {
        put(column, [&[1, 2], &[2, 3], &[1_500_000, 2_000_000], &[125, -50]][at]);
    });
    let set = read("a.parquet", file).dataset;
    assert_eq!(
        context(&set),
        [("1".into(), "2".into(), 15, 0.0, vec![1.25]), ("2".into(), "3".into(), 20, 0.0, vec![-0.5])]
    );
    assert_eq!(set.time_unit.scale, 10);
}

#[test]
fn integers_and_text_of_parquet_are_ids_of_every_width() {
    for (kind, ids) in [
        ("int32 src (INTEGER(16,true))", ["5", "6"]),
        ("int32 src (INTEGER(32,false))", ["4294967295", "6"]),
        ("int64 src (INTEGER(64,false))", ["18446744073709551615", "6"]),
    ] {
        let schema = format!("message m {{ required {kind}; required int64 dst; required int64 ts; }}");
        let values = if ids[0] == "5" { [5, 6] } else { [-1, 6] };
        let file =
            parquet(&schema, Compression::UNCOMPRESSED, |at, column| put(column, [&values, &[1, 2], &[3, 4]][at]));
        let set = read("a.parquet", file).dataset;
        assert_eq!(ends(&set), events(&[(ids[0], "1", 3), (ids[1], "2", 4)]), "{kind}");
    }
    let schema = "message m { required binary user (UTF8); required binary item (UTF8); required int64 ts; }";
    let file = parquet(schema, Compression::UNCOMPRESSED, |at, column| put(column, [&[1, 2], &[1, 1], &[3, 4]][at]));
    let set = read("a.parquet", file).dataset;
    assert_eq!((ends(&set), set.nodes), (events(&[("n1", "n1", 3), ("n2", "n1", 4)]), 3));
}

#[test]
fn timestamps_of_parquet_keep_their_unit() {
    for (kind, unit) in [
        ("int64 ts (TIMESTAMP(MILLIS,true))", "ms"),
        ("int64 ts (TIMESTAMP(MICROS,false))", "us"),
        ("int64 ts (TIMESTAMP(NANOS,true))", "ns"),
        ("int32 ts (DATE)", "day"),
    ] {
        let schema = format!("message m {{ required int64 src; required int64 dst; required {kind}; }}");
        let file = parquet(&schema, Compression::UNCOMPRESSED, |at, column| put(column, [&[1], &[2], &[19_000]][at]));
        let set = read("a.parquet", file);
        assert_eq!((set.dataset.log.time()[0].0, set.dataset.time_unit.description.as_str()), (19_000, unit), "{kind}");
        assert_eq!(notice(&set, "have no zone and were read as UTC"), kind.contains("false"));
    }
    let schema = "message m { required int64 src; required int64 dst; required int96 ts; }";
    let file = parquet(schema, Compression::UNCOMPRESSED, |at, column| put(column, [&[1], &[2], &[1_700_000_000]][at]));
    let set = read("a.parquet", file);
    assert_eq!(
        (set.dataset.log.time()[0].0, set.dataset.time_unit.description.as_str()),
        (1_700_000_000_000_000_000, "ns")
    );
}

#[test]
fn times_that_are_32_bit_floats_are_refused_where_they_are_rounded() {
    let schema = "message m { required int64 src; required int64 dst; required float ts; }";
    let file = |time| parquet(schema, Compression::UNCOMPRESSED, |at, column| put(column, [&[1], &[2], &[time]][at]));
    let refused = refusal("a.parquet", file(1_700_000_000));
    assert!(refused.contains("a.parquet row 0: timestamp `1700000000` is a 32-bit float"), "{refused}");
    assert_eq!(read("a.parquet", file(1000)).dataset.log.time()[0].0, 1000);
}

#[test]
fn every_codec_of_parquet_is_read() {
    let schema = "message m { required int64 src; required int64 dst; required int64 ts; }";
    for codec in [
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
    ] {
        let file = parquet(schema, codec, |at, column| put(column, [&[1, 2], &[2, 3], &[3, 4]][at]));
        assert_eq!(ends(&read("a.parquet", file).dataset), events(&[("1", "2", 3), ("2", "3", 4)]), "{codec}");
    }
}

#[test]
fn an_array_of_features_next_to_parquet_is_used() {
    let schema = "message m { required int64 src; required int64 dst; required int64 ts; required int64 w; }";
    let file =
        parquet(schema, Compression::UNCOMPRESSED, |at, column| put(column, [&[1, 2], &[2, 3], &[3, 4], &[5, 6]][at]));
    let place = Place::with("a.parquet", file);
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n";
    let values: Vec<u8> = [7.5f32, 8.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    place.write(
        "edge_feat.npy",
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &values].concat(),
    );
    let set = prepare_files(&[place.path("a.parquet")], &PrepareOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!(context(&set.dataset)[1].4, [8.5]);
    assert!(notice(&set, "the features are those of edge_feat.npy; the columns `w` were passed over"));
}

#[test]
fn features_beyond_memory_are_spooled_and_come_back_in_order() {
    let rows = 40_000;
    let width = 450;
    let mut text = String::from("src,dst,ts");
    (0..width).for_each(|column| text += &format!(",f{column}"));
    let filler = ",1".repeat(width - 1);
    (0..rows).for_each(|row| text += &format!("\n{},{},{},{row}{filler}", row % 7, row % 5, rows - row));
    let set = read("a.csv", text).dataset;
    let features = set.log.features().unwrap();
    for event in [0, 1, 777, rows as u64 - 1] {
        assert_eq!(features.row(event)[0], (rows as u64 - 1 - event) as f32);
        assert_eq!((features.row(event)[1], features.row(event)[width - 1]), (1.0, 1.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any ids that can be written in csv are read back, whatever signs are in them.
    #[test]
    fn ids_of_any_signs_are_read_back(names in prop::collection::vec(("[a-z][ -~]{0,8}[a-z]", "[a-z][ -~]{0,8}[a-z]"), 1..20), sign in prop::sample::select(vec![',', ';', '\t', '|'])) {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let mut text = format!("src{sign}dst{sign}ts\n");
        for (at, (src, dst)) in names.iter().enumerate() {
            text += &format!("{}{sign}{}{sign}{at}\n", quoted(src), quoted(dst));
        }
        let options = PrepareOptions { delimiter: Some(sign.to_string().parse().unwrap()), ..PrepareOptions::default() };
        let set = read_with("a.csv", &text, &options).dataset;
        let expected: Vec<_> = names.iter().zip(0..).map(|((src, dst), at)| (src.clone(), dst.clone(), at)).collect();
        prop_assert_eq!(ends(&set), expected);
    }

    /// Lines of the signs that readers look for, in any order, give a set or an error.
    #[test]
    fn no_text_makes_a_reader_panic(text in r##"[0-9a-z,;:\t "#%.\-T\n+]{0,120}"##, head in prop::sample::select(vec!["", "src,dst,ts\n", "user_id:token\titem_id:token\tts:float\n", "% sym weighted\n", "# u v t\n", "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n"])) {
        let _ = try_read("a.csv", format!("{head}{text}"), &PrepareOptions::default());
        for missing in [Missing::Drop, Missing::Zero] {
            let _ = try_read("a.csv", format!("{head}{text}"), &PrepareOptions { missing: Some(missing), row_order: true, ..PrepareOptions::default() });
        }
    }
}
