// SPDX-License-Identifier: Apache-2.0
// Memory behind a page table: pages lie scattered in the host, each with its own rights, and every byte outside them
// can be checked to be untouched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "vmm/memory/dma_memory.hpp"

namespace inox::fakes {

class PagedMemory final : public DmaMemory {
public:
    static constexpr std::uint64_t page = page_size;

    explicit PagedMemory(std::size_t host_pages = 1024) : host_(host_pages * page, std::byte{0xcc}) {}

    Hold hold() const override {
        ++holds;
        return {};
    }
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 0; }
    [[nodiscard]] Translated translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                       TranslationLimit& limit) const noexcept override {
        const std::size_t before = out.size();
        for (std::uint64_t at = range.start().raw();;) {
            const auto found = pages_.find(at / page);
            if (revoked || found == pages_.end() ||
                (static_cast<unsigned>(access) & ~static_cast<unsigned>(found->second.access)) != 0) {
                out.resize(before);
                return Translated::fault;
            }
            if (!limit.take_mapping() || !limit.take_piece()) {
                out.resize(before);
                return Translated::too_many;
            }
            const auto size = std::min(range.last().raw() - at + 1, page - at % page);
            // NOLINTNEXTLINE: a device writes through what it is given
            out.push_back({const_cast<std::byte*>(host_.data()) + found->second.host * page + at % page, size});
            if (range.last().raw() - at < size)
                return Translated::whole;
            at += size;
        }
    }

    /// Maps whole pages, backwards in the host, so that neighbours never lie together.
    void map(std::uint64_t address, std::uint64_t size, Access access = Access::read_write) {
        for (std::uint64_t at = address / page; at <= (address + size - 1) / page; ++at)
            pages_[at] = {host_.size() / page - ++used_ * 2 % (host_.size() / page) - 1, access};
    }
    void unmap(std::uint64_t address) { pages_.erase(address / page); }
    void protect(std::uint64_t address, Access access) { pages_.at(address / page).access = access; }

    [[nodiscard]] std::byte& at(std::uint64_t address) {
        return host_[pages_.at(address / page).host * page + address % page];
    }
    [[nodiscard]] std::vector<std::byte> bytes(std::uint64_t address, std::size_t size) {
        std::vector<std::byte> out;
        for (std::size_t i = 0; i < size; ++i)
            out.push_back(at(address + i));
        return out;
    }
    void set(std::uint64_t address, std::span<const std::byte> bytes) {
        for (std::size_t i = 0; i < bytes.size(); ++i)
            at(address + i) = bytes[i];
    }
    /// Bytes that differ at each address from each other, mostly.
    void pattern(std::uint64_t address, std::size_t size, unsigned seed = 1) {
        for (std::size_t i = 0; i < size; ++i)
            at(address + i) = static_cast<std::byte>((i * 131 + (i >> 8) * 17 + seed * 29) & 0xff);
    }
    template <GuestPod T> [[nodiscard]] T get(std::uint64_t address) {
        T value{};
        const auto from = bytes(address, sizeof(T));
        std::memcpy(&value, from.data(), sizeof(T));
        return value;
    }
    /// All of the host's bytes, to compare.
    [[nodiscard]] const std::vector<std::byte>& host() const { return host_; }

    mutable std::atomic<unsigned> holds{0};
    std::atomic<bool> revoked{false}; ///< nothing is reachable any more

private:
    struct Entry {
        std::size_t host;
        Access access;
    };
    std::vector<std::byte> host_;
    std::map<std::uint64_t, Entry> pages_{};
    std::size_t used_{0};
};

} // namespace inox::fakes
