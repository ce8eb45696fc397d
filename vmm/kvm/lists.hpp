// SPDX-License-Identifier: Apache-2.0
// KVM's variable-length arguments: a count, 4 bytes of padding or flags, then the entries.
//
// The kernel headers of Debian 12 declare the entries so that in C++ the struct is larger than in C, and the request
// number, which encodes the size, is wrong with it. Hence the numbers are made here.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::kvm_list {

struct Header {
    std::uint32_t count{};
    std::uint32_t padding{};
};

// NOLINTBEGIN: the kernel's macros cast
inline constexpr unsigned long get_supported_cpuid = _IOWR(KVMIO, 0x05, Header);
inline constexpr unsigned long set_gsi_routing = _IOW(KVMIO, 0x6a, Header);
inline constexpr unsigned long set_msrs = _IOW(KVMIO, 0x89, Header);
inline constexpr unsigned long set_cpuid2 = _IOW(KVMIO, 0x90, Header);
inline constexpr unsigned long get_msrs = _IOWR(KVMIO, 0x88, Header);
inline constexpr unsigned long get_xsave = _IOR(KVMIO, 0xa4, std::byte[4096]);
inline constexpr unsigned long set_xsave = _IOW(KVMIO, 0xa5, std::byte[4096]);
inline constexpr unsigned long get_xsave2 = _IOR(KVMIO, 0xcf, std::byte[4096]); // as large as KVM_CAP_XSAVE2 says
inline constexpr unsigned long get_msr_index_list = _IOWR(KVMIO, 0x02, std::uint32_t);
// NOLINTEND
static_assert(get_xsave2 == 0x9000aecf && get_msr_index_list == 0xc004ae02);
static_assert(get_supported_cpuid == 0xc008ae05 && set_gsi_routing == 0x4008ae6a && set_msrs == 0x4008ae89 &&
              set_cpuid2 == 0x4008ae90 && get_msrs == 0xc008ae88 && get_xsave == 0x9000aea4 && set_xsave == 0x5000aea5);

/// Sends the entries; returns what the ioctl returned.
template <class Entry>
Result<int> send(int fd, unsigned long request, std::span<const Entry> entries, const char* name) {
    std::vector<std::byte> buffer(sizeof(Header) + entries.size_bytes());
    const Header header{static_cast<std::uint32_t>(entries.size()), 0};
    std::memcpy(buffer.data(), &header, sizeof header);
    if (!entries.empty())
        std::memcpy(buffer.data() + sizeof header, entries.data(), entries.size_bytes());
    return checked_ioctl(fd, request, buffer.data(), name);
}

/// Fetches up to `most` entries.
template <class Entry>
Result<std::vector<Entry>> fetch(int fd, unsigned long request, std::size_t most, const char* name) {
    std::vector<std::byte> buffer(sizeof(Header) + most * sizeof(Entry));
    Header header{static_cast<std::uint32_t>(most), 0};
    std::memcpy(buffer.data(), &header, sizeof header);
    TRY_VOID(checked_ioctl(fd, request, buffer.data(), name));
    std::memcpy(&header, buffer.data(), sizeof header);
    std::vector<Entry> entries(header.count < most ? header.count : most);
    if (!entries.empty())
        std::memcpy(entries.data(), buffer.data() + sizeof header, entries.size() * sizeof(Entry));
    return entries;
}

} // namespace inox::kvm_list
