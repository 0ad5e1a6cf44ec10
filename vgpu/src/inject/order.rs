//! One order for trouble, and how it is written on the command line.

use std::str::FromStr;

use super::Kind;

/// Which occurrences of something shall go wrong, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// What goes wrong.
    pub kind: Kind,
    /// The first occurrence to hit, counted from 1 at the time of arming.
    pub nth: u32,
    /// How many in a row; `u32::MAX` is for ever.
    pub times: u32,
    /// Which occurrences count; 0 is all. The meaning depends on the kind.
    pub filter: u32,
    /// A parameter of the kind.
    pub value: u32,
}

impl Order {
    /// The next occurrence, once.
    pub fn next(kind: Kind) -> Order {
        Order { kind, nth: 1, times: 1, filter: 0, value: 0 }
    }
}

/// An [`Order`] for one device: `[DEVICE/]KIND[@NTH][xTIMES][?FILTER][=VALUE]`, numbers decimal or `0x…`, `TIMES`
/// also `*` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Which device of the process.
    pub device: usize,
    /// The order.
    pub order: Order,
}

fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no number"))
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        let (device, rest) = match text.split_once('/') {
            Some((device, rest)) => (number(device)? as usize, rest),
            None => (0, text),
        };
        // Cut from the right, so that each mark ends what stands before it.
        let cut = |rest: &mut &str, mark: char| -> Option<String> {
            let (head, tail) = rest.split_once(mark)?;
            let tail = tail.to_owned();
            *rest = &rest[..head.len()];
            Some(tail)
        };
        let mut rest = rest;
        let value = cut(&mut rest, '=');
        let filter = cut(&mut rest, '?');
        let nth_and_times = cut(&mut rest, '@');
        // A kind has no 'x' before a digit or star, so "copy-hangx3" is not ambiguous.
        let (nth, times) = match nth_and_times.as_deref().map(|t| t.split_once('x').unwrap_or((t, "1"))) {
            Some((nth, times)) => (number(nth)?, times.to_owned()),
            None => match rest
                .rfind('x')
                .filter(|i| rest[i + 1..].starts_with(|c: char| c == '*' || c.is_ascii_digit()))
            {
                Some(i) => {
                    let times = rest[i + 1..].to_owned();
                    rest = &rest[..i];
                    (1, times)
                }
                None => (1, "1".into()),
            },
        };
        let times = if times == "*" { u32::MAX } else { number(&times)? };
        let order = Order {
            kind: rest.parse()?,
            nth,
            times,
            filter: filter.as_deref().map_or(Ok(0), number)?,
            value: value.as_deref().map_or(Ok(0), number)?,
        };
        if order.nth == 0 || order.times == 0 {
            return Err("occurrences and repetitions count from 1".into());
        }
        Ok(Spec { device, order })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let parse = |s: &str| s.parse::<Spec>();
        assert_eq!(parse("copy-hang"), Ok(Spec { device: 0, order: Order::next(Kind::CopyHang) }));
        assert_eq!(
            parse("1/reply-delay@3x4?0x7001=20000"),
            Ok(Spec {
                device: 1,
                order: Order { kind: Kind::ReplyDelay, nth: 3, times: 4, filter: 0x7001, value: 20000 }
            })
        );
        assert_eq!(parse("reply-losex*?0x1002").map(|s| s.order.times), Ok(u32::MAX));
        assert_eq!(parse("copy-skip@2x*").map(|s| (s.order.nth, s.order.times)), Ok((2, u32::MAX)));
        assert!(parse("copy-hang@0").is_err());
        assert!(parse("copy-hang@x").is_err());
        assert!(parse("copy-melt").unwrap_err().contains("copy-hang"));
    }

    #[test]
    fn every_name_and_code_round_trips() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(*kind));
            assert_eq!(Kind::from_code(*kind as u32), Some(*kind));
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
