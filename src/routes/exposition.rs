//! The two text formats of metrics, and which of them a scraper asked for.
//!
//! The registry writes OpenMetrics. Who does not ask for it gets the older format, which every tool reads: there the name of a
//! counter's family ends in `_total` too, there are no units, and nothing marks the end.

use std::fmt::Write as _;

use http::HeaderMap;

use super::accept;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Classic,
}

impl Format {
    /// What the scraper likes better, by its `Accept`; the older one if it does not say.
    pub(super) fn asked_by(headers: &HeaderMap) -> Self {
        let [open, classic] = accept::liking(headers, ["application/openmetrics-text", "text/plain"]);
        if open > 0.0 && open >= classic { Self::OpenMetrics } else { Self::Classic }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Turns what the registry wrote into this format.
    pub(super) fn of(self, page: String) -> String {
        match self {
            Self::OpenMetrics => page,
            Self::Classic => classic(&page),
        }
    }
}

fn classic(page: &str) -> String {
    let mut text = String::with_capacity(page.len() + (page.len() >> 5));
    // A family's help comes before its type, which decides its name.
    let mut help = "";
    for line in page.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said;
        } else if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').unwrap_or((said, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            let words = help.strip_prefix(name).unwrap_or_default();
            let _ = writeln!(text, "# HELP {name}{suffix}{words}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with("# ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    fn asked(accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        Format::asked_by(&headers)
    }

    #[test]
    fn a_scraper_gets_the_format_it_likes_better_and_a_person_the_one_that_every_tool_reads() {
        use Format::{Classic, OpenMetrics};
        // Prometheus 2.42, Prometheus 3, then others.
        for (accept, format) in [
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            ("application/openmetrics-text; q=0.3, text/plain", Classic),
            ("application/openmetrics-text;q=0", Classic),
            ("text/plain", Classic),
            ("*/*", Classic),
            ("", Classic),
        ] {
            assert_eq!(asked(accept), format, "{accept}");
        }
    }

    #[test]
    fn the_older_format_names_counters_in_full_and_has_no_units_and_no_end() {
        let page = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\na_seconds_sum 1.0\n\
                    # HELP b Things, # too.\n# TYPE b counter\nb_total{x=\"# y\"} 2\n\
                    # HELP c Level.\n# TYPE c gauge\nc 3\n# EOF\n";
        let expected = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_sum 1.0\n\
                        # HELP b_total Things, # too.\n# TYPE b_total counter\nb_total{x=\"# y\"} 2\n\
                        # HELP c Level.\n# TYPE c gauge\nc 3\n";
        assert_eq!(Format::Classic.of(page.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.of(page.to_owned()), page);
    }
}
