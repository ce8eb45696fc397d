// SPDX-License-Identifier: Apache-2.0
// Memory behind a page table: pages lie scattered in the host, each with its own rights, and every byte outside them
// can be checked to be untouched.
#pragma once

#include <atomic>
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

    Hold hold() const override;
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 0; }
    [[nodiscard]] Translated do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                          TranslationLimit& limit) const noexcept override;

    /// Maps whole pages, backwards in the host, so that neighbours never lie together.
    void map(std::uint64_t address, std::uint64_t size, Access access = Access::read_write);
    void unmap(std::uint64_t address) { pages_.erase(address / page); }
    void protect(std::uint64_t address, Access access) { pages_.at(address / page).access = access; }

    [[nodiscard]] std::byte& at(std::uint64_t address);
    [[nodiscard]] std::vector<std::byte> bytes(std::uint64_t address, std::size_t size);
    void set(std::uint64_t address, std::span<const std::byte> bytes);
    /// Bytes that differ at each address from each other, mostly.
    void pattern(std::uint64_t address, std::size_t size, unsigned seed = 1);
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
