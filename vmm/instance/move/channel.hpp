// SPDX-License-Identifier: Apache-2.0
// The stream of a move: messages of 16 bytes and what they carry, little-endian.
//
//   source                        destination
//   hello    CBOR: what it is ->
//                             <-  ready, or refused with a text
//   pages    number, bytes    ->                                  any number of these two
//   zeros    number, count    ->
//   state    CBOR: all of it  ->  makes the machine
//                             <-  loaded, or refused with a text
//   go                        ->                                  from here on it is the destination's
//                             <-  running
//
// The other side is not trusted: each size and the order are checked, and so is the time between two bytes.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::move {

enum class Type : std::uint32_t { hello = 1, ready, pages, zeros, state, loaded, go, running, refused };
inline constexpr std::uint32_t magic = 0x4d584e49; // "INXM"
inline constexpr std::size_t most_pages = 256;     ///< of one message
inline constexpr std::size_t most_state = 64UL << 20;
inline constexpr std::size_t most_text = 4096;

/// snapshot_invalid: the stream "has a message that is too long".
std::unexpected<Error> invalid(const char* what);

struct Message {
    Type type{};
    std::uint64_t size{}; ///< of what it carries
};

/// One thread at a time, but for stop(). host_error when the stream has ended or broken, timed_out, snapshot_invalid
/// for what is no message.
class Channel {
public:
    using Time = std::chrono::milliseconds;
    static constexpr Time patience{30'000}; ///< between two bytes
    explicit Channel(UniqueFd stream) : stream_{std::move(stream)} {}

    /// To a listening unix socket, through the Door. False with errno.
    bool connect(const std::string& path);
    Result<void> send(Type type, std::span<const std::byte> first = {}, std::span<const std::byte> second = {});
    Result<Message> receive(Time wait = patience);
    /// What the message carries; all of it has to be taken before the next one.
    Result<void> take(std::span<std::byte> to, Time wait = patience);
    Result<std::vector<std::byte>> take_all(const Message& message, std::size_t most);
    /// A message of this type that carries nothing. What a `refused` says is the error (wrong_state).
    Result<void> expect(Type type, Time wait = patience);
    /// Any thread: both sides' calls fail from now on.
    void stop() const noexcept;

private:
    Result<void> wait_for(short events, Time wait) const;
    UniqueFd stream_;
};

} // namespace inox::move
