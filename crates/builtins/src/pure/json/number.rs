//! Floats as JSON text, with the digits that nlohmann's library prints.
//!
//! That library uses Grisu2 (Florian Loitsch, *Printing Floating-Point Numbers Quickly and Accurately with Integers*, 2010)
//! with powers of ten in steps of eight. Its digits always read back as the same float, but in about 0.6 % of all cases there
//! are shorter ones; since the text reaches `.drv` files, just these digits are wanted. Everything is in 64-bit integers.

/// A float with a 64-bit significand: `f × 2^e`.
#[derive(Debug, Clone, Copy)]
struct Wide {
    f: u64,
    e: i32,
}

impl Wide {
    fn normalised(self) -> Self {
        let shift = self.f.leading_zeros();
        Wide {
            f: self.f << shift,
            e: self.e - shift.cast_signed(),
        }
    }

    /// The upper half of the product, rounded.
    fn times(self, other: Wide) -> Self {
        let product = u128::from(self.f) * u128::from(other.f) + (1 << 63);
        Wide {
            f: u64::try_from(product >> 64).unwrap_or(u64::MAX),
            e: self.e + other.e + 64,
        }
    }
}

/// Significands of 10^-300, 10^-292, …, 10^324, rounded to 64 bits.
#[rustfmt::skip]
const POWERS: [u64; 79] = [
    0xab70fe17c79ac6ca, 0xff77b1fcbebcdc4f, 0xbe5691ef416bd60c, 0x8dd01fad907ffc3c, 0xd3515c2831559a83,
    0x9d71ac8fada6c9b5, 0xea9c227723ee8bcb, 0xaecc49914078536d, 0x823c12795db6ce57, 0xc21094364dfb5637,
    0x9096ea6f3848984f, 0xd77485cb25823ac7, 0xa086cfcd97bf97f4, 0xef340a98172aace5, 0xb23867fb2a35b28e,
    0x84c8d4dfd2c63f3b, 0xc5dd44271ad3cdba, 0x936b9fcebb25c996, 0xdbac6c247d62a584, 0xa3ab66580d5fdaf6,
    0xf3e2f893dec3f126, 0xb5b5ada8aaff80b8, 0x87625f056c7c4a8b, 0xc9bcff6034c13053, 0x964e858c91ba2655,
    0xdff9772470297ebd, 0xa6dfbd9fb8e5b88f, 0xf8a95fcf88747d94, 0xb94470938fa89bcf, 0x8a08f0f8bf0f156b,
    0xcdb02555653131b6, 0x993fe2c6d07b7fac, 0xe45c10c42a2b3b06, 0xaa242499697392d3, 0xfd87b5f28300ca0e,
    0xbce5086492111aeb, 0x8cbccc096f5088cc, 0xd1b71758e219652c, 0x9c40000000000000, 0xe8d4a51000000000,
    0xad78ebc5ac620000, 0x813f3978f8940984, 0xc097ce7bc90715b3, 0x8f7e32ce7bea5c70, 0xd5d238a4abe98068,
    0x9f4f2726179a2245, 0xed63a231d4c4fb27, 0xb0de65388cc8ada8, 0x83c7088e1aab65db, 0xc45d1df942711d9a,
    0x924d692ca61be758, 0xda01ee641a708dea, 0xa26da3999aef774a, 0xf209787bb47d6b85, 0xb454e4a179dd1877,
    0x865b86925b9bc5c2, 0xc83553c5c8965d3d, 0x952ab45cfa97a0b3, 0xde469fbd99a05fe3, 0xa59bc234db398c25,
    0xf6c69a72a3989f5c, 0xb7dcbf5354e9bece, 0x88fcf317f22241e2, 0xcc20ce9bd35c78a5, 0x98165af37b2153df,
    0xe2a0b5dc971f303a, 0xa8d9d1535ce3b396, 0xfb9b7cd9a4a7443c, 0xbb764c4ca7a44410, 0x8bab8eefb6409c1a,
    0xd01fef10a657842c, 0x9b10a4e5e9913129, 0xe7109bfba19c0c9d, 0xac2820d9623bf429, 0x80444b5e7aa7cf85,
    0xbf21e44003acdd2d, 0x8e679c2f5e44ff8f, 0xd433179d9c8cb841, 0x9e19db92b4e31ba9,
];

/// A power of ten that brings `2^e` into the range where the digits can be cut off, and its decimal exponent.
fn power_for(e: i32) -> (Wide, i32) {
    let binary = -60 - e - 1;
    // ceil(binary × log10 2)
    let decimal = (binary * 78913) / (1 << 18) + i32::from(binary > 0);
    let index = (300 + decimal + 7) / 8;
    let exponent = index * 8 - 300;
    let f = usize::try_from(index)
        .ok()
        .and_then(|i| POWERS.get(i))
        .copied()
        .unwrap_or(1 << 63);
    // floor(exponent × log2 10) gives the place of the highest bit.
    (
        Wide {
            f,
            e: ((exponent * 1_741_647) >> 19) - 63,
        },
        exponent,
    )
}

/// The decimal digits of a positive finite float, and the exponent of the last digit.
struct Decimal {
    digits: [u8; 20],
    len: usize,
    exponent: i32,
}

impl Decimal {
    fn push(&mut self, digit: u64) {
        if let Some(slot) = self.digits.get_mut(self.len) {
            *slot = b'0' + u8::try_from(digit).unwrap_or(0);
            self.len += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }

    /// Lowers the last digit as long as that brings the number closer to the true one.
    fn round(&mut self, distance: u64, delta: u64, mut rest: u64, unit: u64) {
        while rest < distance
            && delta - rest >= unit
            && (rest + unit < distance || distance - rest > rest + unit - distance)
        {
            if let Some(last) = self.len.checked_sub(1).and_then(|i| self.digits.get_mut(i)) {
                *last -= 1;
            }
            rest += unit;
        }
    }
}

fn decimal(value: f64) -> Decimal {
    const FRACTION_BITS: u32 = 52;
    const BIAS: i32 = 1023 + 52;
    let bits = value.to_bits();
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    let biased = i32::try_from(bits >> FRACTION_BITS & 0x7ff).unwrap_or(0);
    let exact = if biased == 0 {
        Wide {
            f: fraction,
            e: 1 - BIAS,
        }
    } else {
        Wide {
            f: fraction | 1 << FRACTION_BITS,
            e: biased - BIAS,
        }
    };
    // The neighbours' middles; below a power of two the lower neighbour is closer.
    let above = Wide {
        f: 2 * exact.f + 1,
        e: exact.e - 1,
    }
    .normalised();
    let below = if fraction == 0 && biased > 1 {
        Wide {
            f: 4 * exact.f - 1,
            e: exact.e - 2,
        }
    } else {
        Wide {
            f: 2 * exact.f - 1,
            e: exact.e - 1,
        }
    };
    let below = Wide {
        f: below.f << (below.e - above.e),
        e: above.e,
    };
    let (power, decimal_exponent) = power_for(above.e);
    let exact = exact.normalised().times(power);
    // One unit of error on either side.
    let high = above.times(power);
    let high = Wide {
        f: high.f - 1,
        e: high.e,
    };
    let low = below.times(power).f + 1;

    let mut out = Decimal {
        digits: [0; 20],
        len: 0,
        exponent: -decimal_exponent,
    };
    let mut delta = high.f - low;
    let mut distance = high.f - exact.f;
    let shift = (-high.e).cast_unsigned();
    let one = 1u64 << shift;
    let mut whole = high.f >> shift;
    let mut part = high.f & (one - 1);
    let mut places = whole.checked_ilog10().unwrap_or(0);
    let mut unit = 10u64.pow(places);
    loop {
        out.push(whole / unit);
        whole %= unit;
        let rest = (whole << shift) + part;
        if rest <= delta {
            out.exponent += places.cast_signed();
            out.round(distance, delta, rest, unit << shift);
            return out;
        }
        if places == 0 {
            break;
        }
        places -= 1;
        unit /= 10;
    }
    loop {
        part *= 10;
        out.push(part >> shift);
        part &= one - 1;
        out.exponent -= 1;
        delta *= 10;
        distance *= 10;
        if part <= delta {
            out.round(distance, delta, part, one);
            return out;
        }
    }
}

/// Appends a float as JSON: always with a fraction or an exponent, `null` for what JSON cannot say.
pub fn write_float(value: f64, out: &mut Vec<u8>) {
    const MIN_EXPONENT: i32 = -4;
    const MAX_EXPONENT: i32 = 15;
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value == 0.0 {
        out.extend_from_slice(b"0.0");
        return;
    }
    let decimal = decimal(value.abs());
    let digits = decimal.as_bytes();
    let count = i32::try_from(digits.len()).unwrap_or(0);
    // The place of the decimal point, counted from the first digit.
    let point = count + decimal.exponent;
    let zeros = |out: &mut Vec<u8>, n: i32| out.extend((0..n).map(|_| b'0'));
    if count <= point && point <= MAX_EXPONENT {
        out.extend_from_slice(digits);
        zeros(out, point - count);
        out.extend_from_slice(b".0");
    } else if 0 < point && point <= MAX_EXPONENT {
        let (whole, fraction) =
            digits.split_at(usize::try_from(point).unwrap_or(0).min(digits.len()));
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else if MIN_EXPONENT < point && point <= 0 {
        out.extend_from_slice(b"0.");
        zeros(out, -point);
        out.extend_from_slice(digits);
    } else {
        let (first, rest) = digits.split_at(digits.len().min(1));
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        let exponent = point - 1;
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.unsigned_abs()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(value: f64) -> String {
        let mut out = Vec::new();
        write_float(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn forms() {
        for (value, want) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e15, "1e+15"),
            (1e14, "100000000000000.0"),
            (123456789012345.0, "123456789012345.0"),
            (1e100, "1e+100"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (1.0 / 3.0, "0.3333333333333333"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
            (1.25e-7, "1.25e-07"),
        ] {
            assert_eq!(show(value), want);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]
        #[test]
        fn reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let text = show(value);
                proptest::prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
                proptest::prop_assert!(text.len() <= 25);
            }
        }
    }
}
