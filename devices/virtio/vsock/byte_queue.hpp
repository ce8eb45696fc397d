// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

namespace inox::devices::virtio {

/// Bytes in order of arrival. Gives memory back when it runs empty.
class ByteQueue {
public:
    [[nodiscard]] bool empty() const { return head_ == bytes_.size(); }
    [[nodiscard]] std::size_t size() const { return bytes_.size() - head_; }
    [[nodiscard]] std::span<const std::byte> front() const { return std::span{bytes_}.subspan(head_); }

    void append(std::span<const std::byte> more) {
        if (head_ > bytes_.size() / 2) {
            bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(head_));
            head_ = 0;
        }
        bytes_.insert(bytes_.end(), more.begin(), more.end());
    }
    /// `count` is at most size().
    void consume(std::size_t count) {
        head_ += count;
        if (empty())
            clear();
    }
    void clear() {
        constexpr std::size_t worth_keeping = 4096;
        bytes_.clear();
        head_ = 0;
        if (bytes_.capacity() > worth_keeping)
            bytes_.shrink_to_fit();
    }

private:
    std::vector<std::byte> bytes_{};
    std::size_t head_{0};
};

} // namespace inox::devices::virtio
