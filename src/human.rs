//! Figures as people read them.

/// Bytes in the unit that suits: `512 B`, `3.4 MB`, `13.5 GB` (powers of 1000, as disks and cards are sold).
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be shown as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with its unit of thousands: `134.5M`, `6.74B`.
pub(crate) fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.2}B", number as f64 / 1e9),
    }
}

/// A span of time to two units: `0.4 s`, `42 s`, `3 min 10 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{minutes} min {} s", whole % 60),
        3_600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A moment in seconds since 1970 as a date and time of day, UTC: `2026-03-01 12:05`.
pub(crate) fn date(seconds: i64) -> String {
    let (days, minutes) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) / 60);
    // Years are counted from March, so that a leap day is the last day of one; 400 years repeat exactly.
    let from_march = days + 719_468;
    let (era, day_of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let sizes = [0, 999, 1000, 3_400_000, 999_960, 13_500_000_000, 5_000_000_000_000_000].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "3.4 MB", "1.0 MB", "13.5 GB", "5000.0 TB"]);
        let spans = [0.42, 42.0, 59.7, 190.0, 7_500.0, 273_600.0, f64::NAN].map(duration);
        assert_eq!(spans, ["0.4 s", "42 s", "1 min 0 s", "3 min 10 s", "2 h 5 min", "3 d 4 h", "unknown"]);
        assert_eq!([12, 1_200, 134_515_008, 6_738_415_616].map(count), ["12", "1.2k", "134.5M", "6.74B"]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let moments = [0, 951_782_400, 951_868_799, 1_772_366_700, 4_107_542_340, -60].map(date);
        let expected = [
            "1970-01-01 00:00",
            "2000-02-29 00:00",
            "2000-02-29 23:59",
            "2026-03-01 12:05",
            "2100-02-28 23:59",
            "1969-12-31 23:59",
        ];
        assert_eq!(moments, expected);
    }
}
