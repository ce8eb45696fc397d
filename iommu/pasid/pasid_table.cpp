// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_table.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/log.hpp"
#include "vmm/base/soft_limit.hpp"

namespace inox::iommu {
namespace {

using namespace pasid_format;

std::uint64_t* directory_entry(std::span<std::byte> pages, std::uint32_t table) {
    return reinterpret_cast<std::uint64_t*>(pages.data()) + table; // NOLINT: page aligned
}
std::size_t place_of(std::uint32_t table) { return (directories + table) * page_bytes; }
std::uint32_t* table_entry(std::span<std::byte> pages, GuestPasid guest) {
    auto* const bytes = pages.data() + place_of(guest.raw() >> table_bits);
    return reinterpret_cast<std::uint32_t*>(bytes) + guest.raw() % (1U << table_bits); // NOLINT
}

} // namespace

PasidTable::PasidTable(UniqueFd file, inox::Mapping mapping)
    : file_{std::move(file)}, mapping_{std::move(mapping)}, pages_{mapping_.bytes()}, used_(tables) {}

Result<std::unique_ptr<PasidTable>> PasidTable::create() {
    constexpr const char* hint = "free some memory on the host";
    TRY_VOID(check_memory_file("the table of PASIDs", file_bytes));
    UniqueFd file{::memfd_create("inox-pasid-table", MFD_CLOEXEC)};
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(file_bytes)) != 0)
        return fail_errno(Errc::memory_unavailable, "cannot create the PASID translation table", hint);
    auto mapping = inox::Mapping::create(file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (!mapping)
        return std::unexpected{std::move(mapping).error()};
    ::madvise(mapping->bytes().data(), mapping->bytes().size(), MADV_DONTDUMP);
    return std::unique_ptr<PasidTable>{new PasidTable{std::move(file), std::move(*mapping)}};
}

bool PasidTable::set(GuestPasid guest, HostPasid host) {
    if (guest.raw() >= pasids || host.raw() >= pasids)
        return false;
    std::lock_guard lock{mutex_};
    const std::uint32_t table = guest.raw() >> table_bits;
    auto* const entry = table_entry(pages_, guest);
    const bool fresh = (*entry & entry_valid) == 0;
    __atomic_store_n(entry, host.raw() | entry_valid, __ATOMIC_RELEASE);
    if (!fresh)
        return true;
    ++size_;
    if (used_[table]++ == 0)
        __atomic_store_n(directory_entry(pages_, table), place_of(table) | directory_present, __ATOMIC_RELEASE);
    return true;
}

bool PasidTable::clear(GuestPasid guest) {
    if (guest.raw() >= pasids)
        return false;
    std::lock_guard lock{mutex_};
    const std::uint32_t table = guest.raw() >> table_bits;
    if (used_[table] == 0) // its page is not read, because that would make it resident
        return false;
    auto* const entry = table_entry(pages_, guest);
    if ((*entry & entry_valid) == 0)
        return false;
    __atomic_store_n(entry, 0U, __ATOMIC_RELEASE);
    --size_;
    if (--used_[table] == 0) {
        __atomic_store_n(directory_entry(pages_, table), std::uint64_t{0}, __ATOMIC_RELEASE);
        empty_.push_back(table);
    }
    return true;
}

void PasidTable::trim() {
    std::lock_guard lock{mutex_};
    for (const std::uint32_t table : std::exchange(empty_, {}))
        if (used_[table] == 0 && ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                             static_cast<off_t>(place_of(table)), page_bytes) != 0)
            log::write(log::Level::debug, "a page of the PASID translation table cannot be returned");
}

std::vector<std::pair<GuestPasid, HostPasid>> PasidTable::pairs() const {
    std::lock_guard lock{mutex_};
    std::vector<std::pair<GuestPasid, HostPasid>> list;
    list.reserve(size_);
    for (std::uint32_t table = 0; table < tables; ++table)
        for (std::uint32_t i = 0; used_[table] != 0 && i < 1U << table_bits; ++i) {
            const GuestPasid guest{table << table_bits | i};
            if (const auto host = translate(guest))
                list.emplace_back(guest, *host);
        }
    return list;
}

std::uint32_t PasidTable::size() const {
    std::lock_guard lock{mutex_};
    return size_;
}

std::uint64_t PasidTable::resident() const {
    struct stat status {};
    return ::fstat(file_.get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
}

Result<void> hand_to_kernel(const PasidTable&) { return fail(Errc::unsupported, no_kernel_translation); }

} // namespace inox::iommu
