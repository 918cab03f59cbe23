//! Settings from TOML and from `key=value` on a command line.

use toml::{Table, Value};

use crate::nearest;

/// Sets one dotted key of `table`, as `key=value` says. The value is TOML; a bare word is a string.
///
/// # Errors
/// A sentence naming what is wrong with `setting`.
pub fn apply_override(table: &mut Table, setting: &str) -> Result<(), String> {
    let (key, value) = setting.split_once('=').ok_or("a setting is key=value, for example train.lr=1e-3")?;
    let value = value.trim();
    let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok().and_then(|mut table| table.remove("value"));
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    if parsed.is_none() && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(format!("{value} is no integer of TOML: they lie in {} to {}", i64::MIN, i64::MAX));
    }
    let value = parsed.unwrap_or_else(|| Value::String(value.to_string()));
    if key.trim().is_empty() {
        return Err("the key is empty".into());
    }
    let (sections, last) = key.trim().rsplit_once('.').unwrap_or(("", key.trim()));
    let mut at = table;
    for section in sections.split('.').filter(|section| !section.is_empty()) {
        let below = at.entry(section).or_insert_with(|| Value::Table(Table::new()));
        at = below.as_table_mut().ok_or_else(|| format!("`{section}` is not a section"))?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

/// The error of the TOML reader, with the nearest known key if a key or a value's name is unknown.
pub fn explain_toml(error: &toml::de::Error) -> String {
    let message = error.to_string();
    let names: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    let unknown = ["unknown field", "unknown variant"].iter().any(|what| error.message().starts_with(what));
    let near = names.split_first().filter(|_| unknown).and_then(|(wrong, known)| nearest(wrong, known.iter().copied()));
    match near {
        Some(near) => format!("{}\ndid you mean `{near}`?", message.trim_end()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_goes_where_its_key_says() {
        let mut table: Table = toml::from_str("a = 1\n[b]\nc = 2").unwrap();
        for setting in ["b.c = 3", "b.d=word", "e.f.g=[1, 2]", "a=\"1=2\""] {
            apply_override(&mut table, setting).unwrap();
        }
        assert_eq!(table, toml::from_str("a = \"1=2\"\nb = { c = 3, d = \"word\" }\ne.f.g = [1, 2]").unwrap());
        for (setting, says) in [
            ("a", "key=value"),
            (" =1", "the key is empty"),
            ("b.c.d=1", "`c` is not a section"),
            ("a=18446744073709551615", "no integer of TOML"),
        ] {
            assert!(apply_override(&mut table, setting).unwrap_err().contains(says), "{setting}");
        }
    }
}
