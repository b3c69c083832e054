//! Numbers as they are written everywhere in a report, so that no two places round differently.

use equipoise_record::{Accuracy, Attacked, Finding, Interval};

/// `0.412` as `41.2%`.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.1}%", 100.0 * fraction)
}

/// `[0.37, 0.456]` as `[37.0, 45.6]`, in percent.
pub(crate) fn interval([low, high]: Interval) -> String {
    format!("[{:.1}, {:.1}]", 100.0 * low, 100.0 * high)
}

/// `41.2% [37.0, 45.6]`.
pub(crate) fn accuracy(a: Accuracy) -> String {
    format!("{} {}", percent(a.value), interval(a.interval))
}

/// A difference of two fractions in percentage points: `0.082` as `8.2`, `-0.005` as `−0.5`.
pub(crate) fn points(fraction: f64) -> String {
    let text = format!("{:.1}", 100.0 * fraction);
    match text.strip_prefix('-') {
        Some("0.0") => "0.0".to_owned(),
        Some(size) => format!("−{size}"),
        None => text,
    }
}

/// The interval of a difference, in percentage points: `[−0.5, 1.1]`.
pub(crate) fn points_interval([low, high]: Interval) -> String {
    format!("[{}, {}]", points(low), points(high))
}

/// A p-value with its letter: `p = 0.031`, `p < 0.001`.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {}", p_number(p)) }
}

/// A p-value in a column of its own: `0.031`, `< 0.001`.
pub(crate) fn p_cell(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { p_number(p) }
}

/// A p-value in a file for other programs: with an exponent where it is tiny.
pub(crate) fn p_exact(p: f64) -> String {
    if p > 0.0 && p < 1e-4 { format!("{p:e}") } else { p.to_string() }
}

/// Two significant digits below 0.1, two decimals above.
fn p_number(p: f64) -> String {
    if p < 0.01 {
        format!("{p:.4}")
    } else if p < 0.1 {
        format!("{p:.3}")
    } else {
        format!("{p:.2}")
    }
}

/// `1 run`, `14 runs`.
pub(crate) fn runs(n: usize) -> String {
    format!("{} run{}", thousands(n as u64), if n == 1 { "" } else { "s" })
}

/// The radius of a budget: `k/255` where it is a whole number of grey levels and has no short decimal form: 0.6 is
/// 153/255, but not what was meant.
pub(crate) fn eps(eps: f64) -> String {
    // Six significant digits say all that is meant by a hand-set radius.
    let rounded: f64 = format!("{eps:.5e}").parse().unwrap_or(eps);
    let decimal = rounded.to_string();
    let levels = eps * 255.0;
    let whole = levels.round();
    if decimal.len() > 5 && (levels - whole).abs() <= 1e-6 && whole > 0.0 && whole < 255.0 {
        format!("{whole}/255")
    } else {
        decimal
    }
}

/// What made the attacked images of a diagnosis, to follow "after" or "by".
pub(crate) fn attack(attacked: Attacked) -> &'static str {
    match attacked {
        Attacked::ReadyMade => "the ready-made PGD-10",
        Attacked::Saved => "the attacks of an evaluation",
    }
}

/// A finding by its name in `results.json`.
pub(crate) fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::NoControl => "no-control",
        Finding::NoRobustnessLeft => "no-robustness-left",
        Finding::Obfuscated => "obfuscated",
        Finding::NotObfuscated => "not-obfuscated",
        Finding::Undecided => "undecided",
    }
}

/// The name of a norm: `linf` as `L∞`, `l2` as `L2`.
pub(crate) fn norm(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "linf" => "L∞".to_owned(),
        "l2" => "L2".to_owned(),
        "l1" => "L1".to_owned(),
        _ => name.to_owned(),
    }
}

/// Wall-clock time: `0.42 s`, `12.3 s`, `3 min 20 s`, `2 h 05 min`.
pub(crate) fn seconds(s: f64) -> String {
    let whole = s.round() as u64; // saturates; checked to be finite
    if s < 9.95 {
        format!("{s:.2} s")
    } else if s < 119.5 {
        format!("{s:.1} s")
    } else if whole < 7200 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 image`, `500 images`.
pub(crate) fn images(n: usize) -> String {
    format!("{} image{}", thousands(n as u64), if n == 1 { "" } else { "s" })
}

/// A number on an axis or in a data table: at most four significant digits, exponents outside 1e-3..1e6.
pub(crate) fn number(x: f64) -> String {
    if !x.is_finite() {
        return "not finite".to_owned();
    }
    let magnitude = x.abs();
    if magnitude != 0.0 && !(1e-3..1e6).contains(&magnitude) {
        let text = format!("{x:.3e}");
        // 1.000e-4 as 1e-4
        return match text.split_once('e') {
            Some((mantissa, exponent)) => {
                format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
            }
            None => text,
        };
    }
    let rounded: f64 = format!("{x:.3e}").parse().unwrap_or(x);
    let rounded = if magnitude >= 1e4 { x.round() } else { rounded };
    if rounded == 0.0 { "0".to_owned() } else { rounded.to_string() }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radius_is_a_fraction_of_255_where_it_is_one() {
        assert_eq!(eps(8.0 / 255.0), "8/255");
        assert_eq!(eps(f64::from(8.0_f32 / 255.0)), "8/255");
        assert_eq!(eps(0.6), "0.6");
        assert_eq!(eps(64.0 / 255.0), "64/255");
        assert_eq!(eps(0.5), "0.5");
        assert_eq!(eps(0.03), "0.03");
        assert_eq!(eps(0.3), "0.3");
        assert_eq!(eps(0.0), "0");
        assert_eq!(eps(1.0), "1");
    }

    #[test]
    fn numbers() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
        assert_eq!(seconds(0.4), "0.40 s");
        assert_eq!(seconds(200.0), "3 min 20 s");
        assert_eq!(seconds(7500.0), "2 h 05 min");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(1e-4), "1e-4");
        assert_eq!(number(0.30000000000000004), "0.3");
        assert_eq!(number(12345.0), "12345");
        assert_eq!(number(f64::NAN), "not finite");
        assert_eq!([points(0.082), points(-0.005), points(-0.0001)], ["8.2", "−0.5", "0.0"]);
        assert_eq!([p_value(1.0), p_value(0.0312), p_value(1e-9)], ["p = 1.00", "p = 0.031", "p < 0.001"]);
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
