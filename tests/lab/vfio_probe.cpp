// SPDX-License-Identifier: Apache-2.0
// Exercises inox's VFIO layer, without a guest, on a real kernel: vfio_probe ADDRESS container|iommufd [2M|hold]
// 2M: guest memory in huge pages, which VT-d must then map as huge pages. hold: keeps the device until it is killed.
// Prints what it does, and exits with status 1 at the first deviation. With QEMU's edu device it also does DMA and
// takes interrupts.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <string_view>
#include <unistd.h>

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/session.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/host_files.hpp"
#include "vmm/memory/guest_memory.hpp"
#include "vmm/memory/huge_pages.hpp"

using namespace inox;

namespace {

using namespace devices::vfio;

constexpr std::uint64_t page = page_size;

[[noreturn]] void give_up(const std::string& text) {
    std::printf("FAIL %s\n", text.c_str());
    std::exit(1); // NOLINT: one thread
}
void check(const char* text, bool good) {
    if (!good)
        give_up(text);
    std::printf("ok   %s\n", text);
}
template <class T> T must(const char* text, Result<T> result) {
    if (!result)
        give_up(std::string{text} + ": " + result.error().report());
    std::printf("ok   %s\n", text);
    return std::move(*result);
}
void must(const char* text, const Result<void>& result) {
    if (!result)
        give_up(std::string{text} + ": " + result.error().report());
    std::printf("ok   %s\n", text);
}
bool refused(const Result<void>& result, Errc code) { return !result && result.error().code == code; }

IovaRange pages(std::uint64_t first, std::uint64_t count) { return *IovaRange::sized(Iova{first}, count * page); }

std::size_t open_files() { return host::list("/proc/self/fd").size(); }

bool wait_for(const EventFd& event) {
    pollfd poll{event.fd(), POLLIN, 0};
    return ::poll(&poll, 1, 5000) == 1 && event.drain() != 0;
}

void describe(const Device& device) {
    std::printf("     %s by %s, group %u, reset %s\n", device.name().c_str(), backend_name(device.backend()),
                device.group(), device.can_reset() ? "yes" : "no");
    for (unsigned i = 0; i < region_count; ++i)
        if (const auto& region = device.region(i); region.size != 0)
            std::printf("     region %u: %llu bytes, %zu areas%s\n", i, static_cast<unsigned long long>(region.size),
                        region.areas.size(), region.msix_mappable ? ", MSI-X mappable" : "");
    for (const auto& one : device.dma().apertures())
        std::printf("     usable 0x%llx to 0x%llx\n", static_cast<unsigned long long>(one.start().raw()),
                    static_cast<unsigned long long>(one.last().raw()));
    for (const auto& one : device.dma().reserved())
        std::printf("     reserved 0x%llx to 0x%llx, kind %d\n",
                    static_cast<unsigned long long>(one.range.start().raw()),
                    static_cast<unsigned long long>(one.range.last().raw()), static_cast<int>(one.kind));
}

/// The rules that inox relies on, checked on this kernel.
void try_mappings(AddressSpace& dma, std::span<std::byte> host) {
    must("one page maps", dma.map(pages(0x10000, 1), host.first(page), Access::read_write));
    must("two pages beside it", dma.map(pages(0x11000, 2), host.first(2 * page), Access::read));
    check("an overlap is refused",
          refused(dma.map(pages(0x12000, 2), host.first(2 * page), Access::read), Errc::already_exists));
    check("the MSI window is refused",
          refused(dma.map(pages(0xfee00000, 1), host.first(page), Access::read), Errc::config_value));
    check("a cut is refused", refused(dma.unmap(pages(0x10000, 2)), Errc::config_value));
    must("whole mappings and a hole unmap", dma.unmap(pages(0x0, 64)));
    check("nothing is left", dma.mapping_count() == 0);
    must("what is not there unmaps", dma.unmap(pages(0x0, 64)));
    for (std::uint64_t i = 0; i < 32; ++i)
        if (!dma.map(pages(i * 2 * page, 1), host.first(page), Access::read_write))
            give_up("32 pages with holes");
    must("the whole space unmaps", dma.unmap(IovaRange::full()));
    must("and is free again", dma.map(pages(0, 32), host.first(32 * page), Access::read_write));
    must("to the last", dma.unmap(pages(0, 32)));
}

/// QEMU's edu: a buffer of 4096 bytes at 0x40000 of its own, moved to and from the bus by DMA of 28 bits. QEMU 7.2
/// aborts when a transfer ends with the buffer.
class Edu {
public:
    static constexpr std::uint64_t buffer = 0x40000;
    static constexpr std::size_t length = 2048;
    explicit Edu(Device& device) : device_{device}, registers_{must("BAR 0 maps", device.map(0, {0, 0x1000}))} {}

    [[nodiscard]] bool alive() const { return (load(0) & 0xfffff) == 0x000ed; }
    void dma(std::uint64_t from, std::uint64_t to, bool to_memory) const {
        store(0x80, from);
        store(0x88, to);
        store(0x90, length);
        store(0x98, 1U | (to_memory ? 2U : 0U));
        for (int i = 0; i < 5000 && (load64(0x98) & 1) != 0; ++i)
            ::poll(nullptr, 0, 1);
    }
    void raise() const { store32(0x60, 1); }
    void acknowledge() const { store32(0x64, ~0U); }
    [[nodiscard]] std::uint32_t load(std::size_t at) const {
        return *reinterpret_cast<volatile std::uint32_t*>(registers_.bytes().data() + at); // NOLINT: device registers
    }
    void bus_master() const {
        std::array<std::byte, 2> command{};
        check("the command register reads", device_.read(region_config, 4, command));
        store_le(command, load_le<std::uint16_t>(command) | 6U);
        check("bus mastering turns on", device_.write(region_config, 4, command));
    }

private:
    [[nodiscard]] std::uint64_t load64(std::size_t at) const {
        return *reinterpret_cast<volatile std::uint64_t*>(registers_.bytes().data() + at); // NOLINT
    }
    void store(std::size_t at, std::uint64_t value) const {
        *reinterpret_cast<volatile std::uint64_t*>(registers_.bytes().data() + at) = value; // NOLINT
    }
    void store32(std::size_t at, std::uint32_t value) const {
        *reinterpret_cast<volatile std::uint32_t*>(registers_.bytes().data() + at) = value; // NOLINT
    }
    Device& device_;
    inox::Mapping registers_;
};

void try_edu(Device& device, std::span<std::byte> host) {
    const Edu edu{device};
    edu.bus_master();
    std::array<std::byte, 4> id{};
    check("a register reads by the file as by the mapping",
          device.read(0, 0, id) && load_le<std::uint32_t>(id) == edu.load(0));
    const auto source = host.first(Edu::length);
    const auto target = host.subspan(page, Edu::length);
    for (std::size_t i = 0; i < source.size(); ++i)
        source[i] = static_cast<std::byte>(i * 7 + 3);
    edu.dma(0x0, Edu::buffer, false);
    edu.dma(Edu::buffer, page, true);
    check("DMA reads and writes guest memory 1:1", std::ranges::equal(source, target));
    std::ranges::fill(target, std::byte{0x55});
    must("one address space, unmapped", device.dma().unmap(IovaRange::full()));
    edu.dma(Edu::buffer, page, true);
    check("DMA to what is unmapped does not arrive",
          std::ranges::all_of(target, [](auto b) { return b == std::byte{0x55}; }));

    const auto event = must("an eventfd", EventFd::create());
    const std::array fds{event.fd()};
    if (device.interrupt(Interrupt::msi).count != 0) {
        must("MSI turns on", device.enable(Interrupt::msi, 0, fds));
        edu.raise();
        check("MSI arrives", wait_for(event));
        edu.acknowledge();
        must("a loopback trigger", device.trigger(Interrupt::msi, 0, 1));
        check("arrives too", wait_for(event));
        check("INTx beside MSI is refused", !device.enable(Interrupt::intx, 0, fds));
        must("MSI turns off", device.disable(Interrupt::msi));
    }
    must("INTx turns on", device.enable(Interrupt::intx, 0, fds));
    edu.raise();
    check("INTx arrives", wait_for(event));
    ::poll(nullptr, 0, 20);
    check("once: the host masked it", event.drain() == 0);
    must("INTx unmasks while the device still asserts it", device.unmask_intx());
    check("and arrives again", wait_for(event));
    edu.acknowledge();
    must("INTx turns off", device.disable(Interrupt::intx));
}

/// The host's notifications that the device has failed, and that it asks for the device.
void try_notices(Device& device) {
    for (const auto kind : {Interrupt::error, Interrupt::request}) {
        if (device.interrupt(kind).count == 0)
            continue;
        const auto event = must("an eventfd", EventFd::create());
        const std::array fds{event.fd()};
        must("a notice turns on", device.enable(kind, 0, fds));
        must("a loopback trigger", device.trigger(kind, 0, 1));
        check("arrives", wait_for(event));
        must("it turns off", device.disable(kind));
    }
}

/// Leaves of the device's page table, as VT-d's driver lists them, one a line; 0 where it lists none.
std::size_t translations(const Device& device) {
    const auto text = host::read_text(
        "/sys/kernel/debug/iommu/intel/" + device.address().text() + "/domain_translation_struct", 32 * MiB);
    std::size_t lines = 0;
    for (auto at = text.find("\n0x"); at != text.npos; at = text.find("\n0x", at + 1))
        ++lines;
    return lines;
}

bool is_edu(const Device& device) {
    std::array<std::byte, 4> id{};
    return device.read(region_config, 0, id) && load_le<std::uint32_t>(id) == 0x11e81234;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3 && argc != 4)
        give_up("usage: vfio_probe ADDRESS container|iommufd [2M|4G|hold]");
    const std::string_view mode = argc == 4 ? argv[3] : "";
    const bool huge = mode == "2M";
    const OpenOptions options{
        "probe", argv[1], std::string_view{argv[2]} == "iommufd" ? Backend::iommufd : Backend::container, {}, {}};
    const std::uint64_t mib = mode == "4G" ? 4096 : 512;
    const auto files_before = open_files();
    {
        const auto memory =
            must("guest memory", GuestMemory::create(mib * MiB, huge ? HugePages::two_mib : HugePages::none));
        Session session;
        for (const auto& region : memory.regions())
            must("RAM registers", session.add_ram(region));
        auto device = must("the device opens", Device::open(session, options));
        describe(*device);
        check("a second time is refused", Device::open(session, options).error().code == Errc::in_use);
        try_mappings(device->dma(), memory.regions()[0].host);
        const auto start = std::chrono::steady_clock::now();
        must("all RAM maps", session.map_guest(device->dma()));
        const auto took = std::chrono::duration<double, std::milli>{std::chrono::steady_clock::now() - start};
        std::printf("     %zu MiB in %.0f ms, %zu mappings\n", static_cast<std::size_t>(mib), took.count(),
                    device->dma().mapping_count());
        check("one for each region", device->dma().mapping_count() == memory.regions().size());
        std::uint64_t gathered = 0;
        for (const auto& region : memory.regions())
            gathered += gather_huge_pages(region.host);
        std::printf("     %zu MiB in huge pages without asking for them\n", static_cast<std::size_t>(gathered / MiB));
        if (const auto entries = translations(*device); entries != 0) {
            std::printf("     %zu translations\n", entries);
            check("each of 2 MiB where the memory is", (!huge && gathered < mib * MiB) || entries <= mib / 2 + 8);
        }
        if (mode == "hold") {
            std::printf("holding\n");
            std::fflush(stdout);
            ::pause();
        }
        if (device->can_reset())
            must("it resets", device->reset());
        try_notices(*device);
        if (is_edu(*device))
            try_edu(*device, memory.regions()[0].host);
        if (const auto peers = device->reset_peers()) {
            std::printf("     a bus reset reaches %zu functions\n", peers->size());
            const auto done = device->hot_reset();
            std::printf("     bus reset: %s\n", done ? "done" : done.error().message().c_str());
        }
        device.reset();
        check("RAM is free again", session.memory().pinned() == 0);
        const auto files = open_files();
        for (int i = 0; i < 10; ++i) {
            device = must("it opens again", Device::open(session, options));
            must("and maps", session.map_guest(device->dma()));
            device.reset();
        }
        check("ten times without a file left open", open_files() == files);
    }
    check("nothing is left open", open_files() == files_before);
    std::printf("PASS %s %s\n", argv[1], argv[2]);
    return 0;
}
