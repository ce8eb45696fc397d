// SPDX-License-Identifier: Apache-2.0
// The guest's side of FUSE, one message at a time: well-formed or not.
#pragma once

#include <array>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <linux/fuse.h>

#include "vmm/base/os.hpp"

namespace inox::tests {

/// Bytes, one piece after the other.
class FuseBody {
public:
    template <class T>
    requires std::is_trivially_copyable_v<T> FuseBody& add(const T& value) {
        const auto bytes = std::as_bytes(std::span{&value, 1});
        all.insert(all.end(), bytes.begin(), bytes.end());
        return *this;
    }
    FuseBody& raw(std::string_view text) {
        const auto bytes = std::as_bytes(std::span{text});
        all.insert(all.end(), bytes.begin(), bytes.end());
        return *this;
    }
    /// With the NUL behind it.
    FuseBody& name(std::string_view text) {
        raw(text);
        all.push_back(std::byte{0});
        return *this;
    }
    std::vector<std::byte> all{};
};

struct FuseReply {
    int error{}; ///< an errno
    std::uint64_t unique{};
    std::string body{};
    template <class T> [[nodiscard]] T as(std::size_t offset = 0) const {
        T value{};
        if (offset + sizeof value <= body.size())
            std::memcpy(&value, body.data() + offset, sizeof value);
        return value;
    }
};

std::vector<std::byte> fuse_message(std::uint32_t opcode, std::uint64_t node, const FuseBody& body,
                                    std::uint64_t unique);

class FuseClient {
public:
    explicit FuseClient(UniqueFd socket) : socket_{std::move(socket)} {}

    /// Sends it and returns its number.
    std::uint64_t send(std::uint32_t opcode, std::uint64_t node, const FuseBody& body = {});
    void send_raw(std::span<const std::byte> bytes);
    /// The next reply; error -1 when the server is gone or says nothing for 10 s.
    FuseReply receive();
    FuseReply ask(std::uint32_t opcode, std::uint64_t node, const FuseBody& body = {}) {
        send(opcode, node, body);
        return receive();
    }
    /// Whether a reply comes within the time.
    bool answers(int milliseconds);

    FuseReply init(std::uint32_t minor = 36);
    FuseReply lookup(std::uint64_t parent, std::string_view name) {
        return ask(FUSE_LOOKUP, parent, FuseBody{}.name(name));
    }
    /// The number of the node, or 0.
    std::uint64_t node(std::uint64_t parent, std::string_view name) {
        return lookup(parent, name).as<fuse_entry_out>().nodeid;
    }
    FuseReply create(std::uint64_t parent, std::string_view name, std::uint32_t flags, std::uint32_t mode = 0644);
    FuseReply open(std::uint64_t node, std::uint32_t flags);
    FuseReply read(std::uint64_t node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size);
    FuseReply write(std::uint64_t node, std::uint64_t handle, std::uint64_t offset, std::string_view data);
    /// Names in a folder, read in pieces of `size` bytes.
    std::vector<std::string> list(std::uint64_t node, std::uint32_t size = 4096, bool plus = false);

    std::uint32_t user{0};
    std::uint32_t group{0};

private:
    bool take(std::span<std::byte> bytes);

    UniqueFd socket_;
    std::uint64_t next_{100};
};

} // namespace inox::tests
