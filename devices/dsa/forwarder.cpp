// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/forwarder.hpp"

#include <atomic>
#include <cpuid.h>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <immintrin.h>
#include <sys/mman.h>

#include "vmm/base/log.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox::devices::dsa {
namespace {

/// CPUID leaf 7, ECX.
constexpr unsigned movdir64b_bit = 28;
constexpr unsigned enqcmd_bit = 29;
/// Attempts for one submission, when others keep the queue full.
constexpr unsigned most_attempts = 10'000;

bool cpu_has(unsigned bit) {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> bit & 1) != 0;
}

std::string mode_of(const std::string& path) {
    std::ifstream file{"/sys/bus/dsa/devices/" + std::filesystem::path{path}.filename().string() + "/mode"};
    std::string mode;
    file >> mode;
    return mode;
}

} // namespace

Result<std::shared_ptr<HostQueue>> HostQueue::open(const std::string& path) {
    if (outside::is_shut())
        return fail(Errc::wrong_state, path + " cannot be opened again once inox is confined",
                    "a work queue belongs to the process that opens it: start inox again");
    const std::string mode = mode_of(path);
    if (mode != "dedicated" && mode != "shared")
        return fail(Errc::not_found, "there is no work queue of an accelerator at " + path,
                    "enable one with accel-config, of type user; they appear as /dev/dsa/wqX.Y");
    const bool dedicated = mode == "dedicated";
    if (!cpu_has(dedicated ? movdir64b_bit : enqcmd_bit))
        return fail(Errc::unsupported,
                    "this CPU has no " + std::string{dedicated ? "MOVDIR64B" : "ENQCMD"} + ", which " + path + " needs",
                    "leave out /dsa/forward: inox then copies with the CPU");
    auto fd = TRY(open_file(path, O_RDWR, Errc::host_error));
    auto portal = TRY(Mapping::create(portal_page, PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0));
    log::write(log::Level::warning, "dsa: copies are forwarded to %s; forwarding has never been tested on hardware",
               path.c_str());
    return std::shared_ptr<HostQueue>{new HostQueue{std::move(fd), std::move(portal), dedicated}};
}

bool HostQueue::submit(const Descriptor& descriptor) noexcept {
    std::byte* const to = portal_.bytes().data();
    std::atomic_thread_fence(std::memory_order_seq_cst); // the instructions are not ordered behind older stores
    if (dedicated_) {
        asm volatile("movdir64b (%1), %0" ::"r"(to), "r"(&descriptor) : "memory");
        return true;
    }
    for (unsigned attempt = 0; attempt < most_attempts; ++attempt) {
        bool full = true;
        // The CPU fills in PASID and privilege.
        asm volatile("enqcmd (%2), %1" : "=@ccz"(full) : "r"(to), "r"(&descriptor) : "memory");
        if (!full)
            return true;
        _mm_pause();
    }
    return false;
}

bool HostQueue::copy(std::byte* to, const std::byte* from, std::size_t size, std::size_t& done) noexcept {
    struct alignas(completion_size) Record {
        CompletionRecord value{};
    } record;
    alignas(descriptor_size) Descriptor descriptor{};
    descriptor.flags_word = static_cast<std::uint32_t>(Opcode::memmove) << 24 | flag::completion_address_valid |
                            flag::request_completion | flag::cache_control;
    descriptor.completion = reinterpret_cast<std::uint64_t>(&record); // NOLINT: the device takes integers
    descriptor.source = reinterpret_cast<std::uint64_t>(from);        // NOLINT
    descriptor.destination = reinterpret_cast<std::uint64_t>(to);     // NOLINT
    descriptor.size = static_cast<std::uint32_t>(size);
    done = 0;
    if (!submit(descriptor))
        return false;
    // This wait cannot be given up: the device writes into these buffers until it reports that it is done.
    std::atomic_ref status{record.value.status};
    while (status.load(std::memory_order_acquire) == 0)
        _mm_pause();
    const bool good = record.value.status == static_cast<std::uint8_t>(Status::success);
    done = good ? size : std::min<std::size_t>(record.value.bytes_completed, size);
    return good;
}

void ForwardingCopier::copy(std::byte* to, const std::byte* from, std::size_t size) noexcept {
    // Not every device copies ranges that overlap.
    const bool overlap = to < from + size && from < to + size;
    std::size_t done = 0;
    if (size >= worth_it && !overlap && queue_->copy(to, from, size, done))
        return;
    cpu_.copy(to + done, from + done, size - done); // most likely the device met a page that is not present
}

} // namespace inox::devices::dsa
