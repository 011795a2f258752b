//! Converts BER to DER. EC2's containers are BER, with indefinite lengths and octet strings in
//! pieces; the other code reads DER.
//!
//! Size and depth are limited. Tags above 30 are not supported; no container has them. The order of
//! sets is not changed.

/// The largest container, in bytes. EC2's have about 1,500.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// The deepest nesting. EC2's containers have a depth of 10.
const MAX_DEPTH: usize = 24;

const CONSTRUCTED: u8 = 0x20;
const OCTET_STRING: u8 = 0x04;

/// Converts one element, which must be the whole input. The error says what is wrong with it. DER
/// is returned unchanged.
pub(super) fn to_der(ber: &[u8]) -> Result<Vec<u8>, &'static str> {
    if ber.len() > MAX_BYTES {
        return Err("it is larger than 64 KiB");
    }
    let mut der = Vec::with_capacity(ber.len());
    match element(ber, MAX_DEPTH, &mut der)? {
        [] => Ok(der),
        _ => Err("extra bytes after its end"),
    }
}

/// Appends the first element of `input` to `der` and returns the rest of the input.
fn element<'a>(input: &'a [u8], depth: usize, der: &mut Vec<u8>) -> Result<&'a [u8], &'static str> {
    let depth = depth.checked_sub(1).ok_or("it is nested too deeply")?;
    let (tag, length, mut inside) = header(input)?;
    let is_constructed = tag & CONSTRUCTED != 0;
    let mut content = Vec::new();
    let rest = match length {
        Some(length) => {
            let (mut inside, rest) = inside.split_at_checked(length).ok_or("it is truncated")?;
            while is_constructed && !inside.is_empty() {
                inside = element(inside, depth, &mut content)?;
            }
            content.extend_from_slice(inside);
            rest
        }
        // An indefinite length ends with two zero bytes.
        None if is_constructed => loop {
            if let [0, 0, rest @ ..] = inside {
                break rest;
            }
            inside = element(inside, depth, &mut content)?;
        },
        None => return Err("a primitive value has an indefinite length"),
    };
    match tag == OCTET_STRING | CONSTRUCTED {
        true => append(OCTET_STRING, &joined(&content)?, der),
        false => append(tag, &content, der),
    }
    Ok(rest)
}

/// Returns the tag, the length (`None` if it is indefinite) and the rest of the input.
fn header(input: &[u8]) -> Result<(u8, Option<usize>, &[u8]), &'static str> {
    let [tag, first, rest @ ..] = input else {
        return Err("it is truncated");
    };
    if tag & 0x1f == 0x1f {
        return Err("it has a tag above 30");
    }
    match *first {
        0x80 => Ok((*tag, None, rest)),
        short @ ..0x80 => Ok((*tag, Some(short.into()), rest)),
        long => {
            let (bytes, rest) = rest
                .split_at_checked(usize::from(long & 0x7f))
                .ok_or("it is truncated")?;
            let push =
                |length: usize, byte: &u8| Some(length.checked_mul(256)? + usize::from(*byte));
            let length = bytes.iter().try_fold(0, push).ok_or("it is truncated")?;
            Ok((*tag, Some(length), rest))
        }
    }
}

/// Joins the converted pieces of an octet string.
fn joined(mut pieces: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut whole = Vec::new();
    while !pieces.is_empty() {
        let (OCTET_STRING, Some(length), rest) = header(pieces)? else {
            return Err("a piece of an octet string is not an octet string");
        };
        let (piece, rest) = rest.split_at_checked(length).ok_or("it is truncated")?;
        whole.extend_from_slice(piece);
        pieces = rest;
    }
    Ok(whole)
}

/// Appends an element with its length in the shortest form.
fn append(tag: u8, content: &[u8], der: &mut Vec<u8>) {
    der.push(tag);
    let length = content.len().to_be_bytes();
    match content.len() {
        short @ ..0x80 => der.push(short as u8),
        _ => {
            let zeros = length.iter().take_while(|&&byte| byte == 0).count();
            der.push(0x80 | (length.len() - zeros) as u8);
            der.extend_from_slice(&length[zeros..]);
        }
    }
    der.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indefinite_lengths_and_pieces_become_der() {
        for (ber, der) in [
            (
                &[0x30, 0x80, 0x05, 0x00, 0x00, 0x00][..],
                &[0x30, 0x02, 0x05, 0x00][..],
            ),
            (
                &[0x24, 0x80, 4, 1, b'a', 4, 2, b'b', b'c', 0, 0],
                &[4, 3, b'a', b'b', b'c'],
            ),
            (&[0x24, 7, 0x24, 3, 4, 1, b'a', 4, 0], &[4, 1, b'a']),
            (&[0x30, 0x81, 0x02, 0x05, 0x00], &[0x30, 0x02, 0x05, 0x00]),
            (&[0xa0, 0x84, 0, 0, 0, 2, 5, 0], &[0xa0, 2, 5, 0]),
        ] {
            assert_eq!(to_der(ber).unwrap(), der, "{ber:x?}");
            assert_eq!(to_der(der).unwrap(), der, "DER is unchanged");
        }
        let long = [&[4, 0x82, 0x01, 0x00][..], &[9; 256]].concat();
        assert_eq!(to_der(&long).unwrap(), long);
    }

    #[test]
    fn malformed_ber_is_named() {
        let deep = [0x30, 0x80].repeat(MAX_DEPTH + 1);
        for (wrong, message) in [
            (&[][..], "it is truncated"),
            (&[0x30], "it is truncated"),
            (&[0x30, 0x80], "it is truncated"),
            (&[0x30, 0x05, 0x05, 0x00], "it is truncated"),
            (&[0x04, 0x89, 1, 2, 3, 4, 5, 6, 7, 8, 9], "it is truncated"),
            (
                &[0x04, 0x80, 0, 0],
                "a primitive value has an indefinite length",
            ),
            (&[0x1f, 0x85, 0x01, 0x00], "it has a tag above 30"),
            (
                &[0x24, 0x02, 0x05, 0x00],
                "a piece of an octet string is not an octet string",
            ),
            (&[0x05, 0x00, 0x00], "extra bytes after its end"),
            (&deep, "it is nested too deeply"),
            (&vec![0; MAX_BYTES + 1], "it is larger than 64 KiB"),
        ] {
            assert_eq!(
                to_der(wrong),
                Err(message),
                "{:x?}",
                &wrong[..wrong.len().min(8)]
            );
        }
    }

    /// Random bytes with a fixed seed that often look like BER.
    #[test]
    fn hostile_bytes_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        for _ in 0..20_000 {
            let length = usize::from(next());
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    [0x30, 0x24, 0x80, 0x04, 0x00, 0x31, next(), next()][usize::from(next() & 7)]
                })
                .collect();
            if let Ok(der) = to_der(&bytes) {
                assert_eq!(to_der(&der).as_deref(), Ok(&der[..]), "{bytes:x?}");
            }
        }
    }
}
