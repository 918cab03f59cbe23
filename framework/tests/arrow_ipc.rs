//! Arrow IPC as pandas, polars and pyarrow write it; `fixtures/arrow/make_fixtures.py` made the files.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

#[cfg(not(feature = "arrow"))]
use tempograph_framework::Format;
use tempograph_framework::{PrepareOptions, Prepared, prepare_files};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/arrow").join(name)
}

fn try_read(path: &Path, options: &PrepareOptions) -> Result<Prepared, String> {
    prepare_files(&[path], options, &mut |_, _| {}).map_err(|error| error.to_string())
}

#[cfg(not(feature = "arrow"))]
#[test]
fn a_build_without_the_feature_says_how_to_get_it() {
    assert_eq!(Format::detect(fixture("wide.arrow")).unwrap(), Format::Arrow);
    let refused = try_read(&fixture("pandas.feather"), &PrepareOptions::default()).err().unwrap();
    assert!(refused.contains("build the program with `--features arrow`, or save the table as Parquet"), "{refused}");
}

#[cfg(feature = "arrow")]
mod read {
    use std::fs;

    use proptest::prelude::*;
    use tempograph_framework::{Dataset, Format, Missing, Sides};

    use super::*;

    /// Ends, ticks, label and features of each event.
    fn events(set: &Dataset) -> Vec<(String, String, i64, f32, Vec<f32>)> {
        let row = |event: tempograph_framework::Event| {
            let name = |node| set.ids.name(node).into_owned();
            let features = set.log.features().map_or(Vec::new(), |rows| rows.row(event.id.0).to_vec());
            (name(event.src), name(event.dst), event.time.0, event.label, features)
        };
        set.log.batch(0..set.log.len()).events().map(row).collect()
    }

    #[test]
    fn frames_of_pandas_and_polars_are_read_in_files_and_streams_of_every_packing() {
        let zero = PrepareOptions { missing: Some(Missing::Zero), ..PrepareOptions::default() };
        let first = 1_709_247_600_000;
        let expected = [
            ("ann".into(), "x".into(), first, 1.0, vec![0.5]),
            ("bob".into(), "y".into(), first + 1000, 0.0, vec![0.0]),
            ("ann".into(), "y".into(), first + 1000, 1.0, vec![2.0]),
        ];
        for name in ["pandas.feather", "polars.arrow", "polars.arrows"] {
            let Prepared { dataset, reading } = try_read(&fixture(name), &zero).unwrap();
            assert_eq!(events(&dataset), expected, "{name}");
            assert_eq!(
                (reading.format, dataset.time_unit.description.as_str(), dataset.sides),
                (Format::Arrow, "ms", Sides::Bipartite { sources: 2 }),
                "{name}"
            );
            let refused = try_read(&fixture(name), &PrepareOptions::default()).err().unwrap();
            assert!(refused.contains("row 1: feature `weight` is missing (null); --missing drop"), "{refused}");
        }
    }

    #[test]
    fn numbers_of_every_width_keep_their_values_over_all_batches() {
        for name in ["wide.arrow", "wide_lz4.feather"] {
            let Prepared { dataset, .. } = try_read(&fixture(name), &PrepareOptions::default()).unwrap();
            let features = |tail: [f32; 6]| tail.to_vec();
            assert_eq!(
                events(&dataset),
                [
                    ("1".into(), "18446744073709551615".into(), 150, 0.0, features([0.5, 0.1, 1.0, 1.0, -1.0, 7.0])),
                    ("2".into(), "7".into(), 200, 0.0, features([0.25, 0.2, 0.0, 1.0, 0.0, 8.0])),
                    ("300".into(), "8".into(), 325, 0.0, features([-2.0, 0.3, 1.0, 1.0, 1.0, 9.0])),
                ],
                "{name}"
            );
            assert_eq!(dataset.time_unit.scale, 100);
        }
    }

    #[test]
    fn several_files_are_read_in_order_and_another_schema_is_refused() {
        let read = |names: [&str; 2]| {
            prepare_files(&names.map(fixture), &PrepareOptions::default(), &mut |_, _| {})
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(["wide.arrow", "wide_lz4.feather"]).unwrap().dataset.log.len(), 6);
        let refused = read(["wide.arrow", "pandas.feather"]).err().unwrap();
        assert!(refused.contains("pandas.feather: the columns are not those of the first file"), "{refused}");
    }

    #[test]
    fn lists_are_refused_by_their_column() {
        let refused = try_read(&fixture("nested.feather"), &PrepareOptions::default()).err().unwrap();
        assert!(
            refused.contains("column `tags` holds lists or records") && refused.contains("--drop tags"),
            "{refused}"
        );
        let mut options = PrepareOptions::default();
        options.columns.drop = vec!["tags".into()];
        assert_eq!(try_read(&fixture("nested.feather"), &options).unwrap().dataset.log.len(), 1);
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error_with_the_place() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cut.arrow");
        let whole = fs::read(fixture("wide.arrow")).unwrap();
        for length in (8..whole.len()).step_by(3) {
            fs::write(&path, &whole[..length]).unwrap();
            let refused = try_read(&path, &PrepareOptions::default()).err().unwrap();
            assert!(refused.contains("cut.arrow: the file is damaged at byte"), "{length}: {refused}");
        }
        let whole = fs::read(fixture("polars.arrows")).unwrap();
        for length in (8..whole.len() - 8).step_by(3) {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(try_read(&path, &PrepareOptions::default()).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_an_error_or_another_table_and_never_a_panic(
            which in prop::sample::select(vec!["pandas.feather", "polars.arrow", "polars.arrows", "wide.arrow", "wide_lz4.feather"]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = fs::read(fixture(which)).unwrap();
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("damaged.arrow");
            fs::write(&path, bytes).unwrap();
            let _ = try_read(&path, &PrepareOptions::default());
        }
    }
}
