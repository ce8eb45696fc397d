// SPDX-License-Identifier: Apache-2.0
// Requests and answers as values, and the two ways to answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::api {

enum class Method : std::uint8_t { get, put, patch, del };
/// "GET"
std::string_view method_name(Method method);

struct Request {
    Method method{Method::get};
    std::string path{};  ///< "/drives/rootfs": as sent, without scheme, host and query
    std::string query{}; ///< behind the '?'
    std::string body{};
    /// That came with it (SCM_RIGHTS), in their order; null: none.
    std::shared_ptr<std::vector<UniqueFd>> descriptors{};
};

struct Response {
    unsigned status{204};
    std::string body{}; ///< empty: neither Content-Type nor Content-Length
    std::string content_type{"application/json"};
    bool deprecated{false}; ///< a deprecated field or path was used
};

/// "200 OK", for log lines: the wire has no reason phrase.
std::string status_text(unsigned status);

/// Maximum number of streams at once; they do not count as connections.
inline constexpr unsigned most_streams = 16;

/// An answer without end, in pieces. Any thread.
class Stream {
public:
    Stream() = default;
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    virtual ~Stream() = default;
    /// Never waits. A reader that is too slow is disconnected; false: the reader is gone.
    virtual bool write(std::string piece) = 0;
};

/// A request that waits for its answer. Any thread; the first answer counts. Dropped without one, it ends the
/// connection with status 503.
class Exchange {
public:
    Exchange() = default;
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;
    virtual ~Exchange() = default;
    virtual void answer(Response response) = 0;
    /// Begins an answer of status 200 that ends when the stream or the reader does. Null when there are too many
    /// streams: then the request still waits for its answer.
    virtual std::shared_ptr<Stream> stream(std::string content_type) = 0;
};

using Handler = std::function<void(Request request, std::shared_ptr<Exchange> exchange)>;

} // namespace inox::api
