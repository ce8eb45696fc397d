// SPDX-License-Identifier: Apache-2.0
// Small kernels made in memory: right by default, each field open to damage.
#pragma once

#include <asm/bootparam.h>
#include <cstring>
#include <elf.h>
#include <span>
#include <vector>
#include <zlib.h>

#include "vmm/base/bytes.hpp"

namespace inox::tests {

using Bytes = std::vector<std::byte>;

template <class T> void put(Bytes& bytes, std::size_t offset, const T& value) {
    if (bytes.size() < offset + sizeof value)
        bytes.resize(offset + sizeof value);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

struct Elf {
    static constexpr std::size_t headers_at = 64;
    static constexpr std::size_t data_at = 0x1000;

    Elf64_Ehdr header{};
    std::vector<Elf64_Phdr> program_headers{};
    Bytes data{}; ///< at data_at

    Elf();
    /// A segment of `content`, then zeros up to `memory_size`.
    Elf& load(std::uint64_t address, const Bytes& content, std::uint64_t memory_size);
    /// A PT_NOTE with one Xen note.
    Elf& note(std::uint32_t type, const Bytes& description);
    [[nodiscard]] Bytes bytes() const;
    /// The same as a 32-bit file for i386.
    [[nodiscard]] Bytes bytes32() const;
};

inline Bytes filled(std::size_t size, std::uint8_t value) { return Bytes(size, std::byte{value}); }
template <class T> Bytes bytes_of(const T& value) {
    Bytes bytes;
    put(bytes, 0, value);
    return bytes;
}

/// One member of a gzip archive.
Bytes gzipped(const Bytes& content);

struct BzImage {
    static constexpr std::uint8_t setup_sectors = 3;
    static constexpr std::size_t payload_at = (setup_sectors + 1) * 512;

    setup_header header{};
    Bytes payload{filled(0x400, 0xc3)};

    BzImage();
    [[nodiscard]] Bytes bytes() const;
};

} // namespace inox::tests
