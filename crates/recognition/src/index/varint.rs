//! Numbers in as few bytes as they need, seven bits in each (LEB128).

/// Appends a number.
pub fn write(mut number: u32, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Takes a number off the beginning; `None` at the end, and where there is none.
pub fn read(from: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Appends ascending numbers as their differences.
pub fn write_ascending(numbers: &[u32], into: &mut Vec<u8>) {
    let mut before = 0;
    for number in numbers {
        write(number.wrapping_sub(before), into);
        before = *number;
    }
}

/// Returns the numbers that [`write_ascending`] has written; it ends early where they are damaged.
pub fn read_ascending(mut from: &[u8]) -> impl Iterator<Item = u32> {
    let mut before = 0_u32;
    std::iter::from_fn(move || {
        before = before.wrapping_add(read(&mut from)?);
        Some(before)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(mut numbers in prop::collection::vec(any::<u32>(), 0..50)) {
            numbers.sort_unstable();
            let mut bytes = Vec::new();
            write_ascending(&numbers, &mut bytes);
            prop_assert_eq!(read_ascending(&bytes).collect::<Vec<_>>(), numbers);
        }

        #[test]
        fn any_bytes_are_numbers_or_none(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert!(read_ascending(&bytes).count() <= bytes.len());
        }
    }
}
