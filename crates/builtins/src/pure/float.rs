//! Floats as text, apart from JSON's form (see [`super::json`]).

/// The form that `toString` and string coercion give: `%f`, six fractional digits and never an exponent.
pub fn to_string(value: f64) -> String {
    match special(value) {
        Some(text) => text.to_owned(),
        None => format!("{value:.6}"),
    }
}

/// The form in which values are printed, also by `toXML` and in messages: `%g`, six significant digits without
/// trailing zeros, an exponent below 1e-4 and from 1e6 on.
pub fn print(value: f64) -> String {
    const PRECISION: i32 = 6;
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    let scientific = format!("{value:.5e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..PRECISION).contains(&exponent) {
        let decimals = usize::try_from(PRECISION - 1 - exponent).unwrap_or(0);
        return trim_zeros(&format!("{value:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!(
        "{}e{sign}{:02}",
        trim_zeros(mantissa),
        exponent.unsigned_abs()
    )
}

/// Infinities and NaN, whose sign shows as well.
fn special(value: f64) -> Option<&'static str> {
    if value.is_finite() {
        return None;
    }
    Some(match (value.is_nan(), value.is_sign_negative()) {
        (true, true) => "-nan",
        (true, false) => "nan",
        (false, true) => "-inf",
        (false, false) => "inf",
    })
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// The value of a float literal (`digits.digits`, optional exponent), or `None` when it is out of range.
///
/// Too small is out of range too: C's `strtod` reports results below the normal range that are not exact, and
/// Nix turns that into an error. (A subnormal written out exactly, with some 700 digits, is refused here.)
pub fn parse_literal(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let nonzero = text
        .bytes()
        .take_while(|b| !matches!(b, b'e' | b'E'))
        .any(|b| matches!(b, b'1'..=b'9'));
    (value.is_normal() || (value == 0.0 && !nonzero)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        for (value, want) in [
            (0.1, "0.100000"),
            (1.5, "1.500000"),
            (-0.0, "-0.000000"),
            (123456.1234567, "123456.123457"),
            (5e-7, "0.000000"),
            (2.5e-7, "0.000000"),
            (f64::INFINITY, "inf"),
            (1e22, "10000000000000000000000.000000"),
        ] {
            assert_eq!(to_string(value), want);
        }
        assert_eq!(to_string(-f64::NAN.copysign(1.0)), "-nan");
        assert!(
            to_string(1e308).starts_with("100000000000000001097906362944045541740492309677311846")
        );
    }

    #[test]
    fn printed() {
        for (value, want) in [
            (1.0, "1"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (100000.0, "100000"),
            (1000000.0, "1e+06"),
            (123456789.0, "1.23457e+08"),
            (1e100, "1e+100"),
            (1e-5, "1e-05"),
            (1.0 / 3.0, "0.333333"),
            (1234567.0, "1.23457e+06"),
            (-0.0, "-0"),
            (0.0, "0"),
            (0.00012345678, "0.000123457"),
            (999999.5, "1e+06"),
            (999999.4, "999999"),
            (0.0001, "0.0001"),
            (0.00009999999, "0.0001"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(print(value), want);
        }
    }

    #[test]
    fn literals() {
        assert_eq!(parse_literal("1.5"), Some(1.5));
        assert_eq!(parse_literal(".5e1"), Some(5.0));
        assert_eq!(parse_literal("0.0"), Some(0.0));
        assert_eq!(parse_literal("0.0e5"), Some(0.0));
        assert_eq!(parse_literal("1.e2"), Some(100.0));
        assert_eq!(parse_literal("1.0e400"), None);
        assert_eq!(parse_literal("1.0e-400"), None);
        assert_eq!(parse_literal("1.0e-310"), None);
    }
}
