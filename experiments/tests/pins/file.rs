//! A file of pins: a section a table, a pin a line.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What was found: sections, in them names, in them fields.
type Sections = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

/// Sections that were taken, with all their pins.
#[derive(Default)]
pub struct Pins(Sections);

impl Pins {
    pub fn of<const N: usize>(sections: [&str; N]) -> Pins {
        let mut pins = Pins::default();
        sections.iter().for_each(|section| pins.take(section));
        pins
    }

    /// The section is among those that were taken, be it empty.
    pub fn take(&mut self, section: &str) {
        self.0.entry(section.into()).or_default();
    }

    pub fn put(&mut self, section: &str, name: &str, field: &str, value: String) {
        self.0.get_mut(section).unwrap().entry(name.into()).or_default().insert(field.into(), value);
    }

    /// Every pin of the sections taken that is not the one of the file, or stands in one of them only.
    fn differing(&self, file: &Sections) -> Vec<String> {
        let mut all = Vec::new();
        for (section, found) in &self.0 {
            let (nothing, none) = (BTreeMap::new(), BTreeMap::new());
            let expected = file.get(section).unwrap_or(&nothing);
            let names: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
            for name in names {
                let (found, expected) = (found.get(name).unwrap_or(&none), expected.get(name).unwrap_or(&none));
                let fields: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
                for field in fields {
                    let [found, expected] =
                        [found, expected].map(|pins| pins.get(field).map_or("no pin", String::as_str));
                    if found != expected {
                        all.push(format!("[{section}] \"{name}\" {field}: expected {expected}, found {found}"));
                    }
                }
            }
        }
        all
    }
}

/// Whether the file `name` has the section, or is to be written.
pub fn is_pinned(name: &str, section: &str) -> bool {
    std::env::var_os("TEMPOGRAPH_PINS").is_some() || read(name).contains_key(section)
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pins").join(name)
}

fn read(name: &str) -> Sections {
    toml::from_str(&fs::read_to_string(path(name)).unwrap_or_default()).unwrap()
}

/// Holds what was found against `name`, or with `TEMPOGRAPH_PINS=write` writes it there. Sections that were not taken
/// stay.
#[track_caller]
pub fn check(name: &str, taken: &Pins) {
    let mut file = read(name);
    match std::env::var("TEMPOGRAPH_PINS").as_deref() {
        Ok("write") => {
            file.extend(taken.0.clone());
            fs::write(path(name), written(&file)).unwrap();
        }
        Ok(other) => panic!("TEMPOGRAPH_PINS = \"{other}\"; it is \"write\" or left out"),
        Err(_) => {
            let differing = taken.differing(&file);
            assert!(differing.is_empty(), "{} pins of {name} differ:\n{}", differing.len(), differing.join("\n"));
        }
    }
}

fn written(file: &Sections) -> String {
    let mut text = String::from("# Written by the tests beside it with TEMPOGRAPH_PINS=write. One line a pin.\n");
    for (section, pins) in file {
        writeln!(text, "\n[{section}]").unwrap();
        for (name, fields) in pins {
            let fields: Vec<String> = fields.iter().map(|(field, value)| format!("{field} = \"{value}\"")).collect();
            writeln!(text, "\"{name}\" = {{ {} }}", fields.join(", ")).unwrap();
        }
    }
    text
}

#[test]
fn a_changed_new_or_missing_pin_is_reported_with_both_values() {
    let mut taken = Pins::of(["slices", "tape"]);
    for (name, value) in [("same", "1"), ("moved", "3"), ("new", "4")] {
        taken.put("slices", name, "weights", value.into());
    }
    let pins = r#"[slices]
        "same" = { weights = "1" }
        "moved" = { weights = "2" }
        "gone" = { weights = "5" }
        [other]
        "not taken" = { weights = "6" }"#;
    let expected = [
        "[slices] \"gone\" weights: expected 5, found no pin",
        "[slices] \"moved\" weights: expected 2, found 3",
        "[slices] \"new\" weights: expected no pin, found 4",
    ];
    assert_eq!(taken.differing(&toml::from_str(pins).unwrap()), expected);
    assert!(taken.differing(&toml::from_str(&written(&taken.0)).unwrap()).is_empty());
}
