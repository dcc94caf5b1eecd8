//! The day that templates are told.

use super::{gives, refuses};

/// Templates and what Jinja2 3.1.6, set up as `transformers` 5.24 does, makes of them.
#[rustfmt::skip]
const GIVEN: &[(&str, &str)] = &[
    ("{{ strftime_now('%Y-%m-%d') }}", "2024-07-26"),
    ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    ("{{ strftime_now('%a %A %w %d %b %B %m %y %Y %H %I %p %M %S %f %z %Z %j %U %W %c %x %X %% %G %u %V') }}", "Fri Friday 5 26 Jul July 07 24 2024 00 12 AM 00 00 000000   208 29 30 Fri Jul 26 00:00:00 2024 07/26/24 00:00:00 % 2024 5 30"),
    ("{{ strftime_now('%e %-d %-m %D %F %T %R %r %h %n %t %C %g %k %l %P %s') }}", "26 26 7 07/26/24 2024-07-26 00:00:00 00:00 12:00:00 AM Jul \n \t 20 24  0 12 am 1721952000"),
    ("{{ strftime_now('') }}", ""),
    ("{{ strftime_now('%') }}", "%"),
    ("{{ strftime_now('%Q') }}", "%Q"),
    ("{{ strftime_now('%_d %^a %-H %#Z %10Y %E %Ey %Od') }}", "26 FRI 0  0000002024 %E 24 26"),
    ("{{ strftime_now('é%d') }}", "é26"),
    ("{{ strftime_now(format='%Y') }}", "2024"),
];

#[rustfmt::skip]
const REFUSED: &[&str] = &[
    "{{ strftime_now() }}",
    "{{ strftime_now(1) }}",
];

#[test]
fn the_day_is_written_by_every_field_of_linux() {
    gives(GIVEN);
}

#[test]
fn what_jinja2_refuses_is_refused() {
    refuses(REFUSED);
}
