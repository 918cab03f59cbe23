//! How far ahead an event may be, so that one event from the far future does not make all later ones late.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Number;
use tempograph_framework::{TimeUnit, Timestamp};

use crate::request::{AheadError, FieldPath, RequestError, user_text};

/// A wall clock, which may go backwards.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub fn() -> SystemTime);

impl Default for Clock {
    fn default() -> Clock {
        Clock(SystemTime::now)
    }
}

impl PartialEq for Clock {
    /// The clock is not a setting, so all clocks compare equal.
    fn eq(&self, _: &Clock) -> bool {
        true
    }
}

/// The section `event_time` of a server's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventTimeSpec {
    /// Furthest that an event may be ahead of the newest one, in the unit of the times; 0 for no bound. Left out: ten
    /// times the time from the first to the newest event of the artifact, where the times are not compared with the
    /// clock.
    pub max_ahead: Option<f64>,
    /// Whether the times are Unix times, and in which unit.
    pub clock: EventClock,
    /// Furthest that a Unix time may be ahead of the server's clock, in seconds.
    pub max_ahead_of_clock: f64,
    /// With `late = "wait"`: an event waits until one has come that is so much newer, in the unit of the times.
    pub window: f64,
    /// With `late = "wait"`: an event waits no longer than this by the server's clock, in milliseconds.
    pub max_wait_ms: u64,
    /// With `late = "wait"`: most events that wait. If more come, the oldest are applied early.
    pub max_waiting: usize,
    /// Most refused events that are kept, to be looked at and sent again. The oldest are dropped.
    pub refused_kept: usize,
}

/// The unit of times that are Unix times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventClock {
    /// Unix times if the newest event of the artifact is between 2001 and now in one of the units.
    #[default]
    Auto,
    /// The times are not compared with the clock.
    None,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
    /// Nanoseconds since 1970.
    Nanoseconds,
}

impl Default for EventTimeSpec {
    fn default() -> EventTimeSpec {
        EventTimeSpec {
            max_ahead: None,
            clock: EventClock::Auto,
            max_ahead_of_clock: 300.0,
            window: 0.0,
            max_wait_ms: 10_000,
            max_waiting: 65_536,
            refused_kept: 10_000,
        }
    }
}

impl EventTimeSpec {
    /// Checks the settings. An error names the key and its value.
    ///
    /// # Errors
    /// A sentence for a bound that is negative or not a number.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("max_ahead", self.max_ahead.unwrap_or(0.0)),
            ("max_ahead_of_clock", self.max_ahead_of_clock),
            ("window", self.window),
        ];
        match bounds.iter().find(|(_, bound)| !(*bound >= 0.0 && bound.is_finite())) {
            Some((key, bound)) => Err(format!("event_time.{key} is {bound}; it must be a number from 0 on")),
            None if self.max_waiting == 0 => Err("event_time.max_waiting is 0; it must be at least 1".into()),
            None => Ok(()),
        }
    }
}

impl EventClock {
    const UNITS: [EventClock; 4] =
        [EventClock::Seconds, EventClock::Milliseconds, EventClock::Microseconds, EventClock::Nanoseconds];

    /// Units in a second.
    fn per_second(self) -> Option<f64> {
        match self {
            EventClock::Auto | EventClock::None => None,
            EventClock::Seconds => Some(1.0),
            EventClock::Milliseconds => Some(1e3),
            EventClock::Microseconds => Some(1e6),
            EventClock::Nanoseconds => Some(1e9),
        }
    }

    fn name(self) -> &'static str {
        match self {
            EventClock::Auto => "auto",
            EventClock::None => "none",
            EventClock::Seconds => "seconds",
            EventClock::Milliseconds => "milliseconds",
            EventClock::Microseconds => "microseconds",
            EventClock::Nanoseconds => "nanoseconds",
        }
    }

    /// The unit in which `newest` is a time between 2001 and now.
    fn of(newest: Option<f64>, now: f64) -> EventClock {
        let is_unix = |unit: &EventClock| {
            let seconds = newest.zip(unit.per_second()).map(|(newest, per_second)| newest / per_second);
            seconds.is_some_and(|seconds| (1e9..now + 86_400.0).contains(&seconds))
        };
        EventClock::UNITS.into_iter().find(is_unix).unwrap_or(EventClock::None)
    }
}

/// The bounds on the times of new events, in the unit of the times.
#[derive(Clone, Debug)]
pub(crate) struct TimeBounds {
    unit: TimeUnit,
    ahead_of_newest: Option<f64>,
    /// Where the times are Unix times: their unit, and the bound in seconds.
    clock: Option<(EventClock, f64)>,
    now: Clock,
}

impl TimeBounds {
    /// The bounds of a server whose artifact has seen the time from `origin` to `newest`.
    pub fn new(
        spec: &EventTimeSpec,
        unit: TimeUnit,
        origin: Timestamp,
        newest: Option<Timestamp>,
        now: Clock,
    ) -> TimeBounds {
        let user = |time| unit.from_ticks(time);
        let kind = match spec.clock {
            EventClock::Auto => EventClock::of(newest.map(user), seconds(now)),
            said => said,
        };
        let clock = kind.per_second().map(|_| (kind, spec.max_ahead_of_clock));
        let span = newest.map(|newest| user(newest) - user(origin)).filter(|&span| span > 0.0 && clock.is_none());
        let ahead_of_newest = match spec.max_ahead {
            Some(bound) => Some(bound).filter(|&bound| bound > 0.0),
            None => span.map(|span| 10.0 * span),
        };
        TimeBounds { unit, ahead_of_newest, clock, now }
    }

    /// A window of the settings in ticks.
    pub fn ticks(&self, user: f64) -> i64 {
        (user * self.unit.scale as f64).ceil() as i64
    }

    /// Checks a time that comes after events up to `newest`.
    ///
    /// # Errors
    /// [`RequestError::Ahead`], naming the time and the bound.
    pub fn check(&self, newest: Option<Timestamp>, time: Timestamp, place: FieldPath<'_>) -> Result<(), RequestError> {
        let user = |time| self.unit.from_ticks(time);
        if let Some((unit, bound)) = self.clock {
            let now = seconds(self.now) * unit.per_second().unwrap_or(1.0);
            let most = now + bound * unit.per_second().unwrap_or(1.0);
            if user(time) > most {
                let of = format!("{}, the server's clock in {}", whole(now), unit.name());
                let key = "event_time.max_ahead_of_clock";
                return Err(self.ahead(place, time, of, format!("{bound} s"), key, most));
            }
        }
        if let (Some(bound), Some(newest)) = (self.ahead_of_newest, newest)
            && user(time) - user(newest) > bound
        {
            let of = format!("{}, the newest time so far", user_text(&self.unit, newest));
            let bound_text = Number::from_f64(bound).map_or_else(|| bound.to_string(), |bound| bound.to_string());
            return Err(self.ahead(place, time, of, bound_text, "event_time.max_ahead", user(newest) + bound));
        }
        Ok(())
    }

    fn ahead(
        &self,
        place: FieldPath<'_>,
        time: Timestamp,
        of: String,
        bound: String,
        setting: &'static str,
        most: f64,
    ) -> RequestError {
        // A time in a finer unit is the usual reason.
        let finer = [("milli", 1e3), ("micro", 1e6), ("nano", 1e9)];
        let likely = |times: f64| (most / 20.0..=most).contains(&(self.unit.from_ticks(time) / times));
        let hint = finer.iter().find(|(_, times)| likely(*times));
        let hint = hint.map_or_else(String::new, |(name, _)| {
            format!("; is it in a unit that is finer than that of this set, such as {name}seconds?")
        });
        RequestError::Ahead(Box::new(AheadError {
            place: place.to_string(),
            time: user_text(&self.unit, time),
            of,
            bound,
            setting,
            hint,
        }))
    }
}

fn seconds(clock: Clock) -> f64 {
    (clock.0)().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64())
}

fn whole(time: f64) -> String {
    format!("{time:.0}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: f64 = 1_800_000_000.0;

    fn bounds(spec: &EventTimeSpec, scale: u64, origin: i64, newest: Option<i64>) -> TimeBounds {
        let unit = TimeUnit { description: String::new(), scale };
        let clock = Clock(|| UNIX_EPOCH + Duration::from_secs_f64(NOW));
        TimeBounds::new(spec, unit, Timestamp(origin), newest.map(Timestamp), clock)
    }

    fn takes(bounds: &TimeBounds, newest: i64, time: i64) -> Result<(), String> {
        bounds
            .check(Some(Timestamp(newest)), Timestamp(time), FieldPath::of("events", 3, "time"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn unix_times_are_known_in_every_unit_and_bounded_by_the_clock() {
        for per_second in [1, 1_000, 1_000_000, 1_000_000_000i64] {
            let now = NOW as i64 * per_second;
            let bounds = bounds(&EventTimeSpec::default(), 1, now / 10 * 8, Some(now / 10 * 9));
            assert_eq!(takes(&bounds, now / 10 * 9, now + 299 * per_second), Ok(()), "years may pass in between");
            assert!(takes(&bounds, now, now + 302 * per_second).unwrap_err().contains("the server's clock"));
        }
    }

    #[test]
    fn other_times_are_bounded_by_ten_times_what_the_artifact_has_seen() {
        let bounds = bounds(&EventTimeSpec::default(), 1, 100, Some(1_100));
        assert_eq!(takes(&bounds, 2_000, 12_000), Ok(()));
        let error = takes(&bounds, 2_000, 2_001_000).unwrap_err();
        assert_eq!(
            error,
            "events[3].time is 2001000, which is more than 10000.0 ahead of 2000, the newest time so far (setting \
             `event_time.max_ahead`); is it in a unit that is finer than that of this set, such as milliseconds?"
        );
        assert!(takes(&bounds, 2_000, i64::MAX).is_err());
    }

    #[test]
    fn a_bound_of_0_is_none_and_what_is_said_is_taken() {
        let none = EventTimeSpec { max_ahead: Some(0.0), clock: EventClock::None, ..EventTimeSpec::default() };
        assert_eq!(takes(&bounds(&none, 1, 100, Some(1_100)), 2_000, i64::MAX), Ok(()));
        let said = EventTimeSpec { max_ahead: Some(5.5), ..EventTimeSpec::default() };
        let bounds = bounds(&said, 10, 1000, Some(11_000));
        assert_eq!(takes(&bounds, 20_000, 20_055), Ok(()));
        assert!(takes(&bounds, 20_000, 20_056).is_err());
    }
}
