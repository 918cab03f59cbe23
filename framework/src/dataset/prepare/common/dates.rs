//! Dates of ISO 8601, and times in words.

/// A moment as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Seconds since 1970 began in UTC, or in the writer's own clock where there is no zone.
    pub(crate) seconds: i64,
    /// The digits of the fraction of a second as a whole number, and how many they are.
    pub(crate) fraction: u64,
    pub(crate) digits: u32,
    /// Whether a zone was written.
    pub(crate) zoned: bool,
}

const DAY: i64 = 86_400;

/// Reads `2024-01-31`, `2024-01-31T12:30:05.25+02:00`, a blank instead of the `T`, `20240131T123005Z`, and their like. `None` if the text is
/// not of that form; an error if it is, but names no moment.
pub(crate) fn parse(text: &[u8]) -> Option<Result<Moment, String>> {
    let mut rest = Text(text);
    let year = rest.digits(4)?;
    let basic = !rest.skip(b'-');
    let month = rest.digits(2)?;
    if !basic && !rest.skip(b'-') {
        return None;
    }
    let day = rest.digits(2)?;
    let mut seconds = 0;
    let (mut fraction, mut digits, mut zone) = (0, 0, None);
    let mut clock = (0, 0, 0);
    if rest.0.is_empty() {
        if basic {
            return None;
        }
    } else {
        if !rest.skip(b'T') && !rest.skip(b't') && !rest.skip(b' ') {
            return None;
        }
        clock.0 = rest.digits(2)?;
        let colon = rest.skip(b':');
        clock.1 = rest.digits(2)?;
        if colon && rest.skip(b':') || !colon && rest.0.first().is_some_and(u8::is_ascii_digit) {
            clock.2 = rest.digits(2)?;
            if rest.skip(b'.') || rest.skip(b',') {
                (fraction, digits) = rest.fraction()?;
            }
        }
        zone = rest.zone()?;
        seconds = clock.0 * 3600 + clock.1 * 60 + clock.2;
    }
    if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return Some(Err("which is no day of the calendar".into()));
    }
    if clock.0 > 23 || clock.1 > 59 || clock.2 > 59 {
        return Some(Err("which is no time of a day".into()));
    }
    let seconds = days_since_1970(year, month, day) * DAY + seconds - zone.unwrap_or(0);
    Some(Ok(Moment { seconds, fraction, digits, zoned: zone.is_some() }))
}

struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn skip(&mut self, byte: u8) -> bool {
        let there = self.0.first() == Some(&byte);
        if there {
            self.0 = &self.0[1..];
        }
        there
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    }

    /// The digits of a fraction, of which nine are kept: ticks of a billionth of a second are the finest.
    fn fraction(&mut self) -> Option<(u64, u32)> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        let add = |sum: u64, byte: &u8| sum * 10 + u64::from(byte - b'0');
        (count > 0).then(|| (digits[..count.min(18)].iter().fold(0, add), count.min(18) as u32))
    }

    /// Seconds east of UTC; `None` inside where no zone is written, and outside where something else is.
    fn zone(&mut self) -> Option<Option<i64>> {
        let spaced = self.skip(b' ');
        if matches!(self.0, b"Z" | b"z" | b"UTC" | b"GMT") {
            return Some(Some(0));
        }
        let sign = match self.0.split_first() {
            None => return (!spaced).then_some(None),
            Some((b'+', _)) => 1,
            Some((b'-', _)) => -1,
            Some(_) => return None,
        };
        self.0 = &self.0[1..];
        let hours = self.digits(2)?;
        self.skip(b':');
        let minutes = if self.0.is_empty() { 0 } else { self.digits(2)? };
        (self.0.is_empty() && hours < 24 && minutes < 60).then_some(Some(sign * (hours * 3600 + minutes * 60)))
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from the first of 1970 to a day of the Gregorian calendar; years begin in March, so that the day of a leap year is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Seconds since 1970 as `2024-01-31 12:30:05`.
pub(crate) fn words(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(DAY) + 719_468, seconds.rem_euclid(DAY));
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// A length of time in its two largest units.
pub(crate) fn length(seconds: i64) -> String {
    let units = [("day", DAY), ("hour", 3600), ("minute", 60), ("second", 1)];
    let named = |count: i64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    let Some(at) = units.iter().position(|(_, size)| seconds >= *size) else { return "less than a second".into() };
    let (unit, size) = units[at];
    let more = units.get(at + 1).map(|(unit, small)| (seconds % size / small, *unit)).filter(|more| more.0 > 0);
    named(seconds / size, unit) + &more.map_or(String::new(), |(count, unit)| format!(" {}", named(count, unit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(text: &str) -> i64 {
        parse(text.as_bytes()).unwrap().unwrap().seconds
    }

    #[test]
    fn moments_of_iso_8601_are_read_with_their_zones() {
        assert_eq!(seconds("1970-01-01"), 0);
        assert_eq!(seconds("2024-02-29T12:30:05Z"), 1_709_209_805);
        for same in [
            "2024-02-29 14:30:05+02:00",
            "2024-02-29T07:30:05-0500",
            "20240229T123005Z",
            "2024-02-29 12:30:05 UTC",
            "2024-02-29T14:30:05+02",
        ] {
            assert_eq!(seconds(same), 1_709_209_805, "{same}");
        }
        let fine = parse(b"2024-02-29T12:30:05.250+00:00").unwrap().unwrap();
        assert_eq!((fine.fraction, fine.digits, fine.zoned), (250, 3, true));
        assert_eq!(seconds("1969-12-31T23:59"), -60);
    }

    #[test]
    fn an_impossible_date_is_distinguished_from_text_that_is_no_date() {
        for text in ["2023-02-29", "2024-13-01", "2024-01-01T25:00:00", "2024-01-01T10:60", "2024-00-10"] {
            assert!(parse(text.as_bytes()).unwrap().is_err(), "{text}");
        }
        for text in [
            "",
            "20240131",
            "01/02/2024",
            "2024-01-01T",
            "2024-01-01 Europe",
            "2024-01-01T10:00+99:00",
            "2024",
            "hello",
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn lengths_are_written_in_their_largest_units() {
        assert_eq!(
            (length(90_061), length(60), length(0)),
            ("1 day 1 hour".into(), "1 minute".into(), "less than a second".into())
        );
    }

    proptest! {
        #[test]
        fn words_and_moments_are_inverse(at in -60_000_000_000i64..250_000_000_000) {
            prop_assert_eq!(seconds(&words(at)), at);
        }

        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&text);
        }
    }
}
