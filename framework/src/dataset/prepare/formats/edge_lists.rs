//! Edge lists without names of columns: SNAP's `u v t`, KONECT's `u v`, `u v w`, `u v w t` and `u v t w`, SocioPatterns' `t i j`.

use std::collections::HashSet;

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::{Column, Role, fixed};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{Encoding, Format, PrepareOptions, Progress};
use crate::dataset::prepare::common::text::Sniffed;
use crate::dataset::prepare::formats::table::{Exactness, Files, Plan, read as read_rows};

/// Smaller numbers are no seconds since 1970 of the last fifty years.
const CLOCK: f64 = 1e8;

/// What the first line of a KONECT file says: the kind of the network, and of its weights.
pub(crate) fn konect_header(sniffed: &Sniffed) -> Option<(&str, &str)> {
    let mut words = sniffed.comments.first()?.split_whitespace();
    let kind = words.next().filter(|kind| ["sym", "asym", "bip"].contains(kind))?;
    Some((kind, words.next().unwrap_or("")))
}

/// Rows of numbers, by column; `None` where a value is none.
fn numbers(sniffed: &Sniffed, at: usize) -> Option<Vec<f64>> {
    sniffed.rows.iter().map(|row| row.get(at)?.parse().ok()).collect()
}

/// Whether rows of three columns begin with the time: `None` if the rows do not tell.
///
/// The times of `t i j` never decrease, and `i` and `j` are of one kind. In `u v t` the last column is the time: it does not decrease either,
/// or is a clock.
pub(crate) fn begins_with_time(sniffed: &Sniffed) -> Option<bool> {
    let (Some(a), Some(c)) = (numbers(sniffed, 0), numbers(sniffed, 2)) else { return Some(false) };
    let clock = |column: &[f64]| column.iter().all(|&value| value >= CLOCK);
    let [a_is_clock, c_is_clock] = [&a, &c].map(|column| clock(column));
    let only_a = a_is_clock && !c_is_clock;
    let only_c = c_is_clock && !a_is_clock;
    if !a.is_sorted() || (c.is_sorted() && !only_a) || only_c {
        return Some(false);
    }
    if only_a {
        return Some(true);
    }
    let set = |at: usize| sniffed.rows.iter().filter_map(|row| row.get(at)).collect::<HashSet<_>>();
    let (a, b, c) = (set(0), set(1), set(2));
    let shared = |x: &HashSet<&String>, y: &HashSet<&String>| x.intersection(y).count();
    match (shared(&a, &b), shared(&b, &c)) {
        (0, both) if both > 0 => Some(true),
        (ends, 0) if ends > 0 => Some(false),
        _ => None,
    }
}

const SRC: (&str, Role) = ("u", Role::Src);
const DST: (&str, Role) = ("v", Role::Dst);
const TIME: (&str, Role) = ("t", Role::Time);

fn snap(width: usize, options: &PrepareOptions) -> Result<Vec<Column>, String> {
    match width {
        3 => Ok(fixed(&[SRC, DST, TIME])),
        2 if options.row_order => Ok(fixed(&[SRC, DST])),
        2 => Err("2 columns, and none is the time; --row-order takes the order of the rows".into()),
        _ => Err(format!(
            "{width} columns without names: --src 1 --dst 2 --ts {width} says which is which, --format konect reads `u v w t`"
        )),
    }
}

fn sociopatterns(width: usize, options: &PrepareOptions) -> Result<Vec<Column>, String> {
    let ends = [TIME, ("i", Role::Src), ("j", Role::Dst)];
    let class = Role::Category(options.encoding.unwrap_or(Encoding::OneHot));
    match width {
        3 => Ok(fixed(&ends)),
        5 => Ok(fixed(&[ends[0], ends[1], ends[2], ("class of i", class), ("class of j", class)])),
        _ => Err(format!("{width} columns, and `t i j` are three, with a class of both ends five")),
    }
}

/// KONECT's own order is `u v w t`; where the third column alone is a clock it is `u v t w`.
fn konect(width: usize, sniffed: &Sniffed) -> Result<(Vec<Column>, String), String> {
    let (_, weights) = konect_header(sniffed).unwrap_or(("", ""));
    let even =
        weights == "unweighted" || numbers(sniffed, 2).is_some_and(|values| values.iter().all(|&value| value == 1.0));
    let weight = ("weight", if even && weights != "weighted" { Role::Ignored } else { Role::Feature });
    let clock = |at| numbers(sniffed, at).is_some_and(|values| values.iter().all(|&value| value >= CLOCK));
    match width {
        2 => Ok((fixed(&[SRC, DST]), "`u v`".into())),
        3 => Ok((fixed(&[SRC, DST, weight]), "`u v w`".into())),
        4 if clock(2) && !clock(3) => Ok((
            fixed(&[SRC, DST, TIME, ("weight", Role::Feature)]),
            "`u v t w`, since the third column alone is a clock".into(),
        )),
        4 => Ok((fixed(&[SRC, DST, weight, TIME]), "`u v w t`".into())),
        _ => Err(format!("{width} columns, and KONECT's files have from two to four")),
    }
}

pub(crate) fn read(
    format: Format,
    files: Files,
    options: &PrepareOptions,
    progress: Progress<'_>,
) -> Result<RawSource, PrepareError> {
    let sniffed = &files.sniffed;
    let path = files.first.path().to_owned();
    let Some(width) = sniffed.rows.first().map(Vec::len) else {
        return Err(PrepareError::file(&path, "there are no events"));
    };
    let planned = match format {
        Format::Konect => konect(width, sniffed),
        Format::Sociopatterns => sociopatterns(width, options).map(|columns| (columns, "`t i j`".into())),
        _ => snap(width, options).map(|columns| (columns, String::new())),
    };
    let (columns, how) = planned.map_err(|fact| PrepareError::row(&path, sniffed.first_row, fact))?;
    let space = match (format, konect_header(sniffed)) {
        (Format::Konect, Some(("bip", _))) => IdSpace::Separate("the file is of the kind `bip`".into()),
        (Format::Konect, Some((kind, _))) => IdSpace::One(format!("the file is of the kind `{kind}`")),
        (Format::Sociopatterns, _) => IdSpace::One("contacts are between nodes of one kind".into()),
        _ => IdSpace::Shared,
    };
    let mut given = Vec::new();
    if format == Format::Sociopatterns && options.format.is_none() {
        given.push("the first column is the time, a guess: it never decreases, and the others share ids; --format snap reads `u v t`".into());
    }
    let plan = Plan { columns, header: false, space, how, notices: Vec::new(), exact: Exactness::default() };
    let (events, how, notices) = read_rows(files, &plan, options, progress)?;
    given.extend(notices);
    Ok(RawSource { events, features: None, node_features: None, space: plan.space, how, notices: given })
}
