//! Parts of files, and conditions.

use crate::disks::{MIB, random_bytes};
use crate::{client, village};
use thorp::clock::Rng;

#[test]
fn any_range_is_what_it_would_be_of_the_bytes() {
    let village = village(3, &[]);
    let a = client(&village, "a");
    let mut rng = Rng::seeded(7);
    for size in [0, 1, 100_000, 12 * MIB + 12_345] {
        let data = random_bytes(size, size + 1);
        let path = format!("/api/files/{size}");
        a.put(&path, &data).is(201);
        for _ in 0..40 {
            let (one, two) = (rng.below(size + size / 8 + 2), rng.below(size + size / 8 + 2));
            let (range, wanted) = match rng.below(4) {
                0 => (format!("bytes={one}-"), (one < size).then_some(one..size)),
                1 => (format!("bytes=-{one}"), (one > 0 && size > 0).then(|| size.saturating_sub(one)..size)),
                // Short ones, where most of the chunks must not travel.
                2 => (format!("bytes={one}-{}", one + 9), (one < size).then(|| one..size.min(one + 10))),
                _ => {
                    let (first, last) = (one.min(two), one.max(two));
                    (format!("bytes={first}-{last}"), (first < size).then(|| first..size.min(last + 1)))
                }
            };
            let answer = a.get_with(&path, "Range", &range);
            match wanted {
                Some(wanted) => {
                    let said = format!("bytes {}-{}/{size}", wanted.start, wanted.end - 1);
                    let answer = answer.is(206);
                    assert_eq!(answer.header("content-range"), Some(said.as_str()), "{range}");
                    let wanted = wanted.start as usize..wanted.end as usize;
                    assert!(answer.body == data[wanted], "{range} of {size}");
                }
                None => {
                    let answer = answer.is(416);
                    assert_eq!(answer.header("content-range"), Some(format!("bytes */{size}").as_str()));
                    assert_eq!(answer.code(), "wrong_range");
                }
            }
        }
    }
}

#[test]
fn conditions_are_held() {
    let village = village(2, &[]);
    let a = client(&village, "a");
    a.put("/api/files/x", b"0123456789").is(201);
    let whole = a.get("/api/files/x").is(200);
    let tag = whole.header("etag").unwrap().to_owned();
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let unchanged = a.get_with("/api/files/x", "If-None-Match", &tag).is(304);
    assert!(unchanged.body.is_empty());
    assert_eq!(unchanged.header("etag"), Some(tag.as_str()));
    a.get_with("/api/files/x", "If-None-Match", "\"other\"").is(200);
    assert_eq!(a.get_with("/api/files/x", "If-Match", "\"other\"").is(412).code(), "precondition");
    a.get_with("/api/files/x", "If-Match", &tag).is(200);
    let ask =
        |if_range: &str| a.ask("GET", "/api/files/x", &[("Range", "bytes=2-4"), ("If-Range", if_range)], b"");
    assert_eq!(ask(&tag).is(206).body, b"234");
    assert_eq!(ask("\"other\"").is(200).body, b"0123456789");
    let many = (0..1_000).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
    for range in ["bytes=5-1", "bytes=0-1,3-4", "lines=0-1", "bytes=", &format!("bytes={many}")] {
        assert_eq!(a.get_with("/api/files/x", "Range", range).is(200).body, b"0123456789", "{range}");
    }
    a.get_with("/api/files/x", "Range", "bytes=99999999999999999999-").is(416);
}
