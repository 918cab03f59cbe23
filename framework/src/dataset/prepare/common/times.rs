//! Times written in decimals, kept as integers of the coarsest unit that holds them all.

use crate::Timestamp;
use crate::dataset::prepare::common::dates;
use crate::settings::count::{counted, were};

/// Decimals kept of times that would need more.
const MOST_DECIMALS: u32 = 9;
/// Mantissas of sixteen and seventeen digits were likely printed from binary floats, whose last digits are noise.
const NOISY: std::ops::Range<u128> = 1_000_000_000_000_000..100_000_000_000_000_000;
/// Numbers with more decimals are nothing but noise.
const NOISIEST_DECIMALS: u32 = 36;

/// A number as written: `mantissa / 10^decimals`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decimal {
    mantissa: i128,
    decimals: u32,
}

/// A column of times, and the ticks in one of the user's units.
pub(crate) struct Times {
    ticks: Vec<Timestamp>,
    scale: Scale,
    rounded: u64,
    disorder: Option<Disorder>,
    latest: Timestamp,
    /// Whether the times are dates, and whether those have zones; unknown before the first.
    dates: Option<bool>,
    zoned: Option<bool>,
    unit: Option<&'static str>,
    /// Fractions are cut off; how many were.
    whole: bool,
    cut: u64,
    /// When the edges end, where they do, and the unit of that.
    ends: Vec<Timestamp>,
    end_unit: Option<&'static str>,
}

/// The first place where times go backwards.
pub(crate) struct Disorder {
    /// The event that is earlier than one before it.
    pub(crate) event: usize,
    /// Its time and the latest before it, in the user's units.
    pub(crate) time: f64,
    pub(crate) latest: f64,
    /// Events that are earlier than one before them.
    pub(crate) count: u64,
}

#[derive(Clone, Copy)]
enum Scale {
    Declared(u64),
    /// A power of ten, raised when a time needs more decimals.
    Decimals(u32),
}

impl Decimal {
    /// Reads `-12.50`, `1e9` and their like.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let (digits, exponent) = match digits.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&digits[..at], std::str::from_utf8(&digits[at + 1..]).ok()?.parse::<i32>().ok()?),
            None => (digits, 0),
        };
        let (mut mantissa, mut decimals, mut point, mut any) = (0i128, 0i32, false, false);
        for byte in digits {
            match byte {
                b'0'..=b'9' if mantissa < i128::MAX / 100 => {
                    mantissa = mantissa * 10 + i128::from(byte - b'0');
                    decimals += i32::from(point);
                    any = true;
                }
                // Digits past the thirty-sixth: below any tick if they are decimals, out of every range if not.
                b'0'..=b'9' => decimals -= i32::from(!point),
                b'.' if !point => point = true,
                _ => return None,
            }
        }
        let mantissa = if negative { -mantissa } else { mantissa };
        any.then(|| Self::new(mantissa, decimals.saturating_sub(exponent)))
    }

    /// The same of digits alone, which most times are.
    fn of_digits(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > 18 {
            return None;
        }
        let add = |sum: i64, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'));
        text.iter().try_fold(0, add).map(Self::from)
    }

    fn new(mut mantissa: i128, mut decimals: i32) -> Self {
        while decimals > 0 && mantissa % 10 == 0 && mantissa != 0 {
            (mantissa, decimals) = (mantissa / 10, decimals - 1);
        }
        if mantissa == 0 {
            decimals = 0;
        }
        if decimals < 0 {
            mantissa =
                10i128.checked_pow(decimals.unsigned_abs()).map_or(i128::MAX, |power| mantissa.saturating_mul(power));
            decimals = 0;
        }
        Self { mantissa, decimals: decimals as u32 }
    }

    /// The shortest decimal that differs by no more than a 64-bit float's rounding error; unchanged where the text
    /// does not look like a float's.
    fn without_noise(self) -> Self {
        if self.decimals == 0 || self.decimals > NOISIEST_DECIMALS || !NOISY.contains(&self.mantissa.unsigned_abs()) {
            return self;
        }
        let tolerance = self.mantissa.abs() >> 52;
        let shorter = (0..self.decimals).map(|decimals| (decimals, self.round_to(decimals)));
        for (decimals, mantissa) in shorter {
            let back = 10i128.checked_pow(self.decimals - decimals).and_then(|power| mantissa.checked_mul(power));
            if back.is_some_and(|back| (back - self.mantissa).abs() <= tolerance) {
                return Self { mantissa, decimals };
            }
        }
        self
    }

    /// The number without its fraction.
    fn whole(self) -> Self {
        let mantissa = 10i128.checked_pow(self.decimals).map_or(0, |power| self.mantissa / power);
        Self { mantissa, decimals: 0 }
    }

    /// The mantissa of the nearest number with `decimals` decimals, which are no more than there are.
    fn round_to(self, decimals: u32) -> i128 {
        10i128.checked_pow(self.decimals - decimals).map_or(0, |power| divide_rounded(self.mantissa, power))
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self { mantissa: value.into(), decimals: 0 }
    }
}

fn divide_rounded(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    quotient + if rest.abs() >= by - rest.abs() { rest.signum() } else { 0 }
}

impl Times {
    /// An empty column, with the ticks in one unit if they were declared.
    pub(crate) fn new(declared: Option<u64>) -> Self {
        let scale = declared.map_or(Scale::Decimals(0), Scale::Declared);
        Self {
            ticks: Vec::new(),
            scale,
            rounded: 0,
            disorder: None,
            latest: Timestamp(i64::MIN),
            dates: None,
            zoned: None,
            unit: None,
            whole: false,
            cut: 0,
            ends: Vec::new(),
            end_unit: None,
        }
    }

    /// Cuts the fractions of all times off that follow.
    pub(crate) fn cut_fractions(&mut self) {
        self.whole = true;
    }

    /// Appends a time as written, a number or a date; the error says what is wrong with it.
    pub(crate) fn push_text(&mut self, text: &[u8]) -> Result<(), String> {
        let time = self.read(text)?;
        self.push(time).ok_or_else(|| self.overflow(&String::from_utf8_lossy(&text[..text.len().min(80)])))
    }

    /// Notes when the edge of the event ends whose time was appended last.
    pub(crate) fn push_end(&mut self, text: &[u8]) -> Result<(), String> {
        let time = self.read(text)?;
        let shown = || String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
        let end = self.ticks_of(time).ok_or_else(|| self.overflow(&shown()))?;
        // The scale may have been raised for this value, and the time with it.
        if self.ticks.last().is_some_and(|&begin| end < begin) {
            return Err(format!("the end `{}` is before the time of the event", shown()));
        }
        self.ends.push(end);
        Ok(())
    }

    fn read(&mut self, text: &[u8]) -> Result<Decimal, String> {
        match Decimal::of_digits(text).or_else(|| Decimal::parse(text)) {
            Some(time) => self.is(false, text).map(|()| time),
            None => self.date(text),
        }
    }

    /// Reads a date, as seconds since 1970.
    fn date(&mut self, text: &[u8]) -> Result<Decimal, String> {
        let shown = String::from_utf8_lossy(&text[..text.len().min(80)]);
        let moment = match dates::parse(text) {
            Some(Ok(moment)) => moment,
            Some(Err(fact)) => return Err(format!("timestamp `{shown}` is not a number but a date, {fact}")),
            None => {
                let slashes = text.contains(&b'/') || text.iter().filter(|&&byte| byte == b'.').count() == 2;
                let advice = if slashes { "; whether day or month comes first is not told" } else { "" };
                return Err(format!(
                    "timestamp `{shown}` is not a number or a date of ISO 8601 such as 2024-01-31T12:30:05+01:00{advice}"
                ));
            }
        };
        self.is(true, text)?;
        if *self.zoned.get_or_insert(moment.zoned) != moment.zoned {
            let (has, others) = if moment.zoned { ("a zone", "none") } else { ("no zone", "one") };
            return Err(format!("timestamp `{shown}` has {has}, and those before it have {others}"));
        }
        let power = 10i128.pow(moment.digits);
        Ok(Decimal::new(i128::from(moment.seconds) * power + i128::from(moment.fraction), moment.digits as i32))
    }

    /// Notes that times are dates, or that they are not.
    fn is(&mut self, dates: bool, text: &[u8]) -> Result<(), String> {
        if *self.dates.get_or_insert(dates) == dates {
            return Ok(());
        }
        let (this, others) = if dates { ("a date", "numbers") } else { ("a number", "dates") };
        Err(format!("timestamp `{}` is {this}, and those before it are {others}", String::from_utf8_lossy(text)))
    }

    /// The unit of the times where the file tells it: dates are seconds since 1970.
    pub(crate) fn unit(&self) -> Option<&'static str> {
        if self.dates == Some(true) { Some("s") } else { self.unit }
    }

    /// Sets the unit of the ends of edges that a file's schema tells.
    pub(crate) fn set_end_unit(&mut self, unit: &'static str) {
        self.end_unit = Some(unit);
    }

    /// Refuses ends in another unit than the times.
    pub(crate) fn check_units(&self) -> Result<(), String> {
        match (self.unit, self.end_unit) {
            (time, Some(end)) if time != Some(end) => Err(format!(
                "the times are in {} and the ends in {end}; save both columns in one unit",
                time.unwrap_or("no unit")
            )),
            _ => Ok(()),
        }
    }

    /// When the edges end, by event; empty where they do not.
    pub(crate) fn take_ends(&mut self) -> Vec<Timestamp> {
        std::mem::take(&mut self.ends)
    }

    /// Sets the unit that a file's schema tells.
    pub(crate) fn set_unit(&mut self, unit: &'static str) {
        self.unit = Some(unit);
    }

    /// Appends a time from a binary float.
    pub(crate) fn push_float(&mut self, time: f64) -> Result<(), String> {
        self.push_text(time.to_string().as_bytes())
    }

    /// Appends a whole time.
    pub(crate) fn push_whole(&mut self, time: i64) -> Result<(), String> {
        self.push(time.into()).ok_or_else(|| self.overflow(&time.to_string()))
    }

    fn overflow(&self, shown: &str) -> String {
        format!(
            "timestamp `{shown}` overflows 64-bit ticks at {} ticks a unit; declare a smaller time scale",
            self.scale()
        )
    }

    fn ticks_of(&mut self, mut time: Decimal) -> Option<Timestamp> {
        if self.whole && time.decimals > 0 {
            self.cut += 1;
            time = time.whole();
        }
        let ticks = match self.scale {
            Scale::Declared(scale) => self.at_declared(time, scale)?,
            Scale::Decimals(_) => self.at_decimals(time.without_noise())?,
        };
        i64::try_from(ticks).ok().map(Timestamp)
    }

    fn push(&mut self, time: Decimal) -> Option<()> {
        let ticks = self.ticks_of(time)?;
        if ticks < self.latest {
            let in_units = |time: Timestamp| time.0 as f64 / self.scale() as f64;
            let first =
                Disorder { event: self.ticks.len(), time: in_units(ticks), latest: in_units(self.latest), count: 0 };
            self.disorder.get_or_insert(first).count += 1;
        }
        self.latest = self.latest.max(ticks);
        self.ticks.push(ticks);
        Some(())
    }

    fn at_declared(&mut self, time: Decimal, scale: u64) -> Option<i128> {
        let scaled = time.mantissa.checked_mul(scale.into())?;
        // Dividing by a power beyond i128 gives 0 for any time.
        let Some(power) = 10i128.checked_pow(time.decimals) else {
            self.rounded += 1;
            return Some(0);
        };
        self.rounded += u64::from(scaled % power != 0);
        Some(divide_rounded(scaled, power))
    }

    fn at_decimals(&mut self, time: Decimal) -> Option<i128> {
        let (mantissa, decimals) = if time.decimals > MOST_DECIMALS {
            self.rounded += 1;
            (time.round_to(MOST_DECIMALS), MOST_DECIMALS)
        } else {
            (time.mantissa, time.decimals)
        };
        let have = self.decimals();
        if decimals > have {
            self.refine(decimals - have)?;
        }
        mantissa.checked_mul(10i128.pow(self.decimals() - decimals))
    }

    fn decimals(&self) -> u32 {
        if let Scale::Decimals(decimals) = self.scale { decimals } else { 0 }
    }

    /// Multiplies the existing times by `10^more`: at most nine times in all, so reading stays linear.
    fn refine(&mut self, more: u32) -> Option<()> {
        self.scale = Scale::Decimals(self.decimals() + more);
        let factor = 10i64.pow(more);
        for time in self.ticks.iter_mut().chain(&mut self.ends) {
            time.0 = time.0.checked_mul(factor)?;
        }
        if !self.ticks.is_empty() {
            self.latest.0 = self.latest.0.checked_mul(factor)?;
        }
        Some(())
    }

    /// Ticks in one of the user's units.
    pub(crate) fn scale(&self) -> u64 {
        match self.scale {
            Scale::Declared(scale) => scale,
            Scale::Decimals(decimals) => 10u64.pow(decimals),
        }
    }

    /// The first place where times go backwards, if there is one.
    pub(crate) fn disorder(&self) -> Option<&Disorder> {
        self.disorder.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.ticks.len()
    }

    /// What the user should know about the scale.
    pub(crate) fn notices(&self) -> Vec<String> {
        let scale = self.scale();
        let mut notices = Vec::new();
        if matches!(self.scale, Scale::Decimals(1..)) {
            notices.push(format!("times are fractional: one unit is stored as {scale} ticks"));
        }
        let dates = |ticks: &Timestamp| {
            let (year, month, day) = (ticks.0 / 10_000, ticks.0 / 100 % 100, ticks.0 % 100);
            (1900..=2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
        };
        if scale == 1 && !self.ticks.is_empty() && self.ticks.iter().all(dates) {
            notices.push(format!(
                "times such as {} look like dates without their signs and were read as numbers; write them as {}",
                self.ticks[0].0, "2024-01-31 if they are dates"
            ));
        }
        if self.cut > 0 {
            notices.push(format!(
                "the fractions of {} were cut off, as the benchmark's loader does",
                counted(self.cut, "time")
            ));
        }
        if self.zoned == Some(false) {
            notices.push("the dates have no zone and were read as UTC".into());
        }
        if self.rounded > 0 {
            notices.push(format!(
                "{} finer than a tick of 1/{scale} unit {} rounded; declare a time scale that suits all",
                counted(self.rounded, "time"),
                were(self.rounded)
            ));
        }
        notices
    }

    pub(crate) fn ticks(&self) -> &[Timestamp] {
        &self.ticks
    }

    pub(crate) fn into_ticks(self) -> Vec<Timestamp> {
        self.ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(declared: Option<u64>, texts: &[&str]) -> Result<(Vec<i64>, u64, u64), String> {
        let mut times = Times::new(declared);
        texts.iter().try_for_each(|text| times.push_text(text.as_bytes()))?;
        Ok((times.ticks.iter().map(|time| time.0).collect(), times.scale(), times.rounded))
    }

    #[test]
    fn the_scale_is_the_smallest_power_of_ten_that_holds_every_time() {
        assert_eq!(read(None, &["1", "2.0", "-3.00"]), Ok((vec![1, 2, -3], 1, 0)));
        assert_eq!(read(None, &["7", "1.5", "0.25", "3"]), Ok((vec![700, 150, 25, 300], 100, 0)));
        assert_eq!(read(None, &["1289241911.72836", "5"]), Ok((vec![128924191172836, 500000], 100_000, 0)));
        assert_eq!(read(None, &["1.5e3", "2E-2", "+4"]), Ok((vec![150_000, 2, 400], 100, 0)));
    }

    #[test]
    fn noise_of_binary_floats_is_not_precision() {
        assert_eq!(
            read(None, &["0.30000000000000004", "1289241911.7283601"]),
            Ok((vec![30000, 128924191172836], 100_000, 0))
        );
    }

    #[test]
    fn times_that_no_power_of_ten_holds_are_rounded_to_nine_decimals_and_counted() {
        assert_eq!(
            read(None, &["0.0", "0.10101010101010101", "1.0"]),
            Ok((vec![0, 101010101, 1_000_000_000], 1_000_000_000, 1))
        );
    }

    #[test]
    fn a_declared_scale_is_kept() {
        assert_eq!(read(Some(99), &["0.10101010101010101", "1"]), Ok((vec![10, 99], 99, 1)));
        assert_eq!(read(Some(1), &["0.5", "-0.5", "0.49"]), Ok((vec![1, -1, 0], 1, 3)));
    }

    #[test]
    fn a_malformed_time_is_refused_with_its_text() {
        for text in ["abc", "", "1.2.3", "nan", "inf", "1e", "--1", "1 2", "."] {
            let error = read(None, &[text]).unwrap_err();
            assert!(error.starts_with(&format!("timestamp `{text}` is not a number or a date of ISO 8601")), "{error}");
        }
        for texts in [
            &["9223372036854775808"][..],
            &["1e30"],
            &["1e400"],
            &["1e18", "0.001"],
            &["99999999999999999999999999999999999999999999"],
        ] {
            assert!(read(None, texts).unwrap_err().contains("overflows 64-bit ticks"), "{texts:?}");
        }
    }

    #[test]
    fn dates_are_seconds_since_1970_and_their_fractions_are_ticks() {
        assert_eq!(read(None, &["1970-01-02", "1970-01-01T00:00:01.25"]), Ok((vec![8_640_000, 125], 100, 0)));
        assert_eq!(read(None, &["2024-01-01T00:00:00+01:00"]), Ok((vec![1_704_063_600], 1, 0)));
        assert!(
            read(None, &["2024-01-01", "2024-01-01T00:00Z"])
                .unwrap_err()
                .contains("has a zone, and those before it have none")
        );
        assert!(read(None, &["2024-01-01", "5"]).unwrap_err().contains("is a number, and those before it are dates"));
        assert!(read(None, &["31/01/2024"]).unwrap_err().contains("whether day or month comes first is not told"));
    }

    proptest! {
        #[test]
        fn decimals_are_exact(whole in -1_000_000i64..1_000_000, fractions in prop::collection::vec(0u32..1000, 1..20)) {
            let texts: Vec<String> = fractions.iter().map(|fraction| format!("{whole}.{fraction:03}")).collect();
            let (ticks, scale, rounded) = read(None, &texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(rounded, 0);
            for (tick, fraction) in ticks.iter().zip(&fractions) {
                // `-3.250` is -3 - 0.250.
                let sign = if whole < 0 { -1 } else { 1 };
                let thousandths = whole * 1000 + sign * i64::from(*fraction);
                let negative_zero = whole == 0;
                prop_assert!(negative_zero || tick * 1000 == thousandths * scale as i64);
            }
        }
    }
}
