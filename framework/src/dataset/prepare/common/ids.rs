//! The ids of nodes as they are read: whole numbers, or text where one of them is none.

use rustc_hash::FxHashMap;

/// Bytes of the longest id.
const LONGEST: usize = 1024;

/// The distinct ids of a source, numbered in the order in which they appear.
pub(crate) struct Ids {
    seen: Seen,
    /// The id that is no whole number, for which all were kept as text.
    pub(crate) text_because: Option<String>,
    exact: bool,
}

enum Seen {
    Whole(FxHashMap<u64, u32>),
    Text(FxHashMap<Box<str>, u32>),
}

/// Distinct ids in ascending order.
pub(crate) enum Own {
    Whole(Vec<u64>),
    Text(Vec<Box<str>>),
}

impl Own {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(ids) => ids.len(),
            Self::Text(ids) => ids.len(),
        }
    }
}

/// An id as it stands in a file.
enum Written<'a> {
    Whole(u64),
    Text(&'a str),
}

impl Ids {
    /// No ids yet. `exact` keeps every id as it is written.
    pub(crate) fn new(exact: bool) -> Self {
        let seen = if exact { Seen::Text(FxHashMap::default()) } else { Seen::Whole(FxHashMap::default()) };
        Self { seen, text_because: None, exact }
    }

    /// The number of an id that is written as `text`; the error says what is wrong with it.
    pub(crate) fn number(&mut self, text: &[u8]) -> Result<u32, String> {
        match read(text, self.exact)? {
            Written::Whole(id) => self.number_whole(id),
            Written::Text(text) => self.number_text(text),
        }
    }

    /// The number of a whole id.
    pub(crate) fn number_whole(&mut self, id: u64) -> Result<u32, String> {
        match &mut self.seen {
            Seen::Whole(known) => next(known.len()).map(|next| *known.entry(id).or_insert(next)),
            Seen::Text(_) => self.number_text(&id.to_string()),
        }
    }

    fn number_text(&mut self, text: &str) -> Result<u32, String> {
        if let Seen::Whole(known) = &mut self.seen {
            let known = std::mem::take(known).into_iter().map(|(id, number)| (id.to_string().into(), number));
            self.seen = Seen::Text(known.collect());
            self.text_because = Some(text.to_owned());
        }
        let Seen::Text(known) = &mut self.seen else { return Err("the ids are of two kinds".into()) };
        if let Some(&number) = known.get(text) {
            return Ok(number);
        }
        let number = next(known.len())?;
        known.insert(text.into(), number);
        Ok(number)
    }

    /// Whether an id that is text is among them.
    pub(crate) fn knows(&self, text: &str) -> bool {
        match &self.seen {
            Seen::Text(known) => known.contains_key(text),
            Seen::Whole(_) => false,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match &self.seen {
            Seen::Whole(known) => known.len(),
            Seen::Text(known) => known.len(),
        }
    }

    /// Those that `keep` holds of their numbers in ascending order, and the place of each number among them.
    pub(crate) fn sorted(&self, keep: impl Fn(u32) -> bool) -> (Own, Vec<u32>) {
        let mut places = vec![u32::MAX; self.len()];
        let own = match &self.seen {
            Seen::Whole(known) => Own::Whole(sort(known, keep, &mut places).into_iter().copied().collect()),
            Seen::Text(known) => Own::Text(sort(known, keep, &mut places).into_iter().cloned().collect()),
        };
        (own, places)
    }
}

fn next(known: usize) -> Result<u32, String> {
    u32::try_from(known).ok().filter(|&next| next < u32::MAX).ok_or_else(|| "more nodes than 32 bits number".into())
}

fn sort<'a, T: Ord>(known: &'a FxHashMap<T, u32>, keep: impl Fn(u32) -> bool, places: &mut [u32]) -> Vec<&'a T> {
    let mut kept: Vec<(&T, u32)> =
        known.iter().map(|(id, &number)| (id, number)).filter(|&(_, number)| keep(number)).collect();
    kept.sort_unstable();
    kept.iter().zip(0..).for_each(|(&(_, number), place)| places[number as usize] = place);
    kept.into_iter().map(|(id, _)| id).collect()
}

/// An id: digits are a whole number, and so is `7.0`, as programs write it that know no other numbers.
fn read(text: &[u8], exact: bool) -> Result<Written<'_>, String> {
    let shown = || String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
    if !exact {
        let digits = match text.iter().position(|&byte| byte == b'.') {
            Some(point) if point > 0 && text[point + 1..].iter().all(|&byte| byte == b'0') => &text[..point],
            _ => text,
        };
        if !digits.is_empty() && digits.len() < 21 && digits.iter().all(u8::is_ascii_digit) {
            let canonical = digits.len() == 1 || digits[0] != b'0';
            let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
            if let Some(id) = digits.iter().try_fold(0, add).filter(|_| canonical) {
                return Ok(Written::Whole(id));
            }
        }
        let number = std::str::from_utf8(text).ok().filter(|text| !text.bytes().any(|byte| byte.is_ascii_alphabetic()));
        if let Some(number) = number.and_then(|text| text.parse::<f64>().ok()) {
            if number < 0.0 {
                return Err(format!(
                    "`{}` is negative; leave the row out, or --ids text keeps ids as they are",
                    shown()
                ));
            }
            if number.fract() != 0.0 {
                return Err(format!("`{}` is not a whole number; --ids text keeps ids as they are", shown()));
            }
        }
    }
    if text.len() > LONGEST {
        return Err(format!("`{}…` is an id of {} bytes; {LONGEST} are the most", shown(), text.len()));
    }
    let text = std::str::from_utf8(text)
        .map_err(|_| format!("`{}` is not UTF-8; convert the file, as with `iconv -f latin1 -t utf-8`", shown()))?;
    Ok(Written::Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(texts: &[&str]) -> Own {
        let mut ids = Ids::new(false);
        texts.iter().for_each(|text| assert!(ids.number(text.as_bytes()).is_ok(), "{text}"));
        ids.sorted(|_| true).0
    }

    #[test]
    fn ids_are_numbers_until_one_is_not_and_then_all_are_as_written() {
        assert!(matches!(own(&["7", "3", "7.0"]), Own::Whole(ids) if ids == [3, 7]));
        assert!(matches!(own(&["7", "x", "10"]), Own::Text(ids) if ids == ["10", "7", "x"].map(Box::from)));
        assert!(matches!(own(&["7", "007"]), Own::Text(ids) if ids.len() == 2), "a leading zero is part of an id");
        assert!(matches!(own(&["18446744073709551616"]), Own::Text(_)), "an id beyond 64 bits is kept exactly");
    }
}
