//! `strftime_now`: the date, as templates ask for it.

use jiff::Timestamp;
use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
use jiff::tz::Offset;

/// C's `strftime` in the C locale, of `now_s` seconds since 1970. A conversion
/// that does not exist stays as it is; what a clock without a time zone cannot
/// tell (`%z`, `%Z`) is empty, as Python has it.
pub(crate) fn strftime(format: &str, now_s: i64) -> String {
    let Ok(now) = Timestamp::from_second(now_s) else {
        // Beyond the year 9999: no clock says so.
        return String::new();
    };
    let time = Offset::UTC.to_datetime(now);
    let format = without_zones(format, now_s);
    let config = Config::new().custom(PosixCustom::new()).lenient(true);
    let shown = BrokenDownTime::from(time).to_string_with_config(&config, format);
    // Leniently, every format can be shown.
    shown.unwrap_or_default()
}

/// `format` without the conversions that need an instant, not a date: those for
/// zones are empty, and `%s` is the number.
fn without_zones(format: &str, now_s: i64) -> String {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('z' | 'Z') | None => {}
            Some('s') => out.push_str(&now_s.to_string()),
            Some(conversion) => out.extend(['%', conversion]),
        }
    }
    out
}
