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

/// `format` without the conversions that need an instant, not a date (those for
/// zones are empty, and `%s` is the number), and those that C does not have.
fn without_zones(format: &str, now_s: i64) -> String {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        // In the C locale, what is asked for in other digits comes in these.
        let mut conversion = chars.next();
        if let Some(digits @ ('E' | 'O')) = conversion {
            conversion = chars.next();
            if conversion.is_none() {
                out.extend(['%', '%', digits]);
                break;
            }
        }
        match conversion {
            Some('z' | 'Z') => {}
            None => out.push_str("%%"),
            Some('s') => out.push_str(&now_s.to_string()),
            Some('f') => out.push_str("000000"),
            // Not C's.
            Some(other @ ('N' | 'q' | 'Q' | ':' | '.')) => out.extend(['%', '%', other]),
            Some(conversion) => out.extend(['%', conversion]),
        }
    }
    out
}
