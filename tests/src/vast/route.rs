//! Which request is for what.

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /api/v0/bundles/`
    Search,
    /// `PUT /api/v0/search/asks/`
    SearchAsks,
    /// `PUT /api/v0/asks/{id}/`
    Create(u64),
    /// `GET /api/v1/instances/`
    List,
    /// `GET /api/v0/instances/`, which is no more.
    OldList,
    /// `GET /api/v0/instances/filters/`
    Filters,
    /// `GET /api/v0/instances/{id}/`
    One(u64),
    /// `PUT /api/v0/instances/{id}/`: start, stop, label.
    Change(u64),
    /// `DELETE /api/v0/instances/{id}/`
    Destroy(u64),
    /// `PUT /api/v0/instances/bid_price/{id}/`
    Bid(u64),
    /// `PUT /api/v0/instances/request_logs/{id}/`
    Logs(u64),
    /// `GET /api/v0/users/current/`
    User,
    /// `GET /api/v0/charges/`
    Charges,
    /// `GET /api/v0/gpu_names/unique/`, open to everybody.
    GpuNames,
}

/// What a request is for; `None` where nothing lies. A slash at the end makes no difference.
pub fn route(method: &str, path: &str) -> Option<Endpoint> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let number = |text: &str| text.parse().ok();
    Some(match (method, parts.as_slice()) {
        ("POST", ["api", "v0", "bundles"]) => Endpoint::Search,
        ("PUT", ["api", "v0", "search", "asks"]) => Endpoint::SearchAsks,
        ("PUT", ["api", "v0", "asks", id]) => Endpoint::Create(number(id)?),
        ("GET", ["api", "v1", "instances"]) => Endpoint::List,
        ("GET", ["api", "v0", "instances"]) => Endpoint::OldList,
        ("GET", ["api", "v0", "instances", "filters"]) => Endpoint::Filters,
        ("GET", ["api", "v0", "instances", id]) => Endpoint::One(number(id)?),
        ("PUT", ["api", "v0", "instances", id]) => Endpoint::Change(number(id)?),
        ("DELETE", ["api", "v0", "instances", id]) => Endpoint::Destroy(number(id)?),
        ("PUT", ["api", "v0", "instances", "bid_price", id]) => Endpoint::Bid(number(id)?),
        ("PUT", ["api", "v0", "instances", "request_logs", id]) => Endpoint::Logs(number(id)?),
        ("GET", ["api", "v0", "users", "current"]) => Endpoint::User,
        ("GET", ["api", "v0", "charges"]) => Endpoint::Charges,
        ("GET", ["api", "v0", "gpu_names", "unique"]) => Endpoint::GpuNames,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_should() {
        assert_eq!(route("GET", "/api/v0/users/current"), Some(Endpoint::User));
        assert_eq!(route("GET", "/api/v0/users/current/"), Some(Endpoint::User));
        assert_eq!(route("PUT", "/api/v0/instances/bid_price/7/"), Some(Endpoint::Bid(7)));
        assert_eq!(route("DELETE", "/api/v0/instances/7/"), Some(Endpoint::Destroy(7)));
        assert_eq!(route("GET", "/api/v0/instances/filters/"), Some(Endpoint::Filters));
        assert_eq!(route("GET", "/api/v0/instances/x/"), None);
        assert_eq!(route("DELETE", "/api/v1/instances/7/"), None);
        assert_eq!(route("PUT", "/api/v0/instances/request_logs/7"), Some(Endpoint::Logs(7)));
    }
}
