// SPDX-License-Identifier: Apache-2.0
// A file whose server takes its time, as that of a network file system that hangs: FUSE, spoken here.
#pragma once

#include <linux/fuse.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <thread>

#include "vmm/base/os.hpp"

namespace inox::fakes {

/// Zeroes, one file of `size` bytes. Whatever it is asked while slow() it answers `delay` later. Attributes count for
/// no time at all, so that whoever wants to know them asks.
class SlowFile {
public:
    static constexpr std::chrono::milliseconds delay{500};

    /// Runs `body` where files can be mounted that nobody else sees. Where this machine has no such place, runs nothing
    /// and returns why.
    static std::string with(std::uint64_t size, const std::function<void(SlowFile&)>& body);
    SlowFile(const SlowFile&) = delete;
    SlowFile& operator=(const SlowFile&) = delete;
    ~SlowFile();

    [[nodiscard]] std::string path() const { return folder_ + "/file"; }
    void slow() { slow_ = true; }
    /// Questions for attributes while it was slow.
    [[nodiscard]] unsigned asked() const { return asked_; }

private:
    SlowFile(std::uint64_t size, UniqueFd fuse);

    [[nodiscard]] fuse_attr attributes(std::uint64_t node) const;
    template <class T> void answer(std::uint64_t unique, const T& body, std::size_t size = sizeof(T)) {
        std::array<std::byte, 8192> out{};
        const fuse_out_header head{static_cast<std::uint32_t>(sizeof head + size), 0, unique};
        std::memcpy(out.data(), &head, sizeof head);
        std::memcpy(out.data() + sizeof head, &body, std::min(size, sizeof body));
        (void)!::write(fuse_.get(), out.data(), head.len);
    }
    void refuse(std::uint64_t unique, int error);
    void serve();
    void handle(std::span<const std::byte> in);

    const std::uint64_t size_;
    UniqueFd fuse_;
    std::string folder_{"/tmp/inox-slow-XXXXXX"};
    bool mounted_{false};
    std::atomic<bool> slow_{false};
    std::atomic<unsigned> asked_{0};
    std::thread server_{};
};

} // namespace inox::fakes
