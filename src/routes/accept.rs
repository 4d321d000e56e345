//! Which of several formats a caller likes better.

use http::{HeaderMap, header::ACCEPT};

/// How much the caller likes each of these media types, by its `Accept`: from 0, also where it is not named, to 1.
pub(super) fn liking<const N: usize>(headers: &HeaderMap, media_types: [&str; N]) -> [f32; N] {
    let mut liking = [0.0_f32; N];
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts
            .filter_map(|part| part.strip_prefix("q="))
            .find_map(|weight| weight.parse().ok())
            .unwrap_or(1.0);
        let named = media_types.into_iter().position(|media_type| name.eq_ignore_ascii_case(media_type));
        if let Some(liked) = named.and_then(|at| liking.get_mut(at)) {
            *liked = liked.max(weight);
        }
    }
    liking
}
