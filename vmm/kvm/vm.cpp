// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vm.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>

#include "vmm/base/hex.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/kvm/access.hpp"
#include "vmm/kvm/lists.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

constexpr const char* kvm_path = "/dev/kvm";

std::unexpected<Error> open_failed() {
    const int error = errno;
    if (error != EACCES && error != EPERM)
        return fail_errno(
            Errc::kvm_missing, "cannot open /dev/kvm",
            "load the module (modprobe kvm_amd or kvm_intel), or switch virtualisation on in the firmware or in the "
            "machine around this one; without any, the lab of inox's source (tools/lab -- COMMAND, docs/lab.md) "
            "brings a machine that has it");
    std::string hint = kvm_denied_hint();
    errno = error;
    return fail_errno(Errc::kvm_denied, "no permission to open /dev/kvm", std::move(hint));
}

struct Needed {
    int capability;
    const char* name;
};
// What a start cannot do without. `inox host` lists these and the optional ones.
constexpr std::array<Needed, 7> needed{{
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
}};

} // namespace

Result<Kvm> Kvm::open() {
    UniqueFd fd = outside::open(kvm_path, O_RDWR);
    if (!fd)
        return open_failed();
    Kvm kvm{std::move(fd)};
    auto version = checked_ioctl(kvm.fd(), KVM_GET_API_VERSION, std::uint64_t{0}, "KVM_GET_API_VERSION");
    if (!version || *version != KVM_API_VERSION)
        return fail(Errc::kvm_unusable, "/dev/kvm is not a KVM of API version 12", "use a newer host kernel");
    for (const Needed& one : needed)
        if (kvm.check(one.capability) <= 0)
            return fail(Errc::kvm_unusable, std::string{"this KVM lacks "} + one.name,
                        "use a newer host kernel; `inox host` shows everything that is missing");
    return kvm;
}

int Kvm::check(int capability) const {
    return checked_ioctl(fd(), KVM_CHECK_EXTENSION, static_cast<std::uint64_t>(capability), "KVM_CHECK_EXTENSION")
        .value_or(0);
}

Result<void> Kvm::remember() {
    supported_ = TRY(supported_cpuid());
    return {};
}

Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
    if (supported_)
        return *supported_;
    constexpr std::size_t most = 256; // the kernel's own limit
    return kvm_list::fetch<kvm_cpuid_entry2>(fd(), kvm_list::get_supported_cpuid, most, "KVM_GET_SUPPORTED_CPUID");
}

Vm::Vm(const Kvm& kvm, UniqueFd fd) : fd_{std::move(fd)} {
    router_ = std::make_unique<IrqRouter>(fd_.get(), static_cast<unsigned>(kvm.check(KVM_CAP_IRQ_ROUTING)));
}

Result<std::unique_ptr<Vm>> Vm::create(const Kvm& kvm, const GuestMemory& memory) {
    UniqueFd fd{TRY(checked_ioctl(kvm.fd(), KVM_CREATE_VM, std::uint64_t{0}, "KVM_CREATE_VM"))};
    std::unique_ptr<Vm> vm{new Vm{kvm, std::move(fd)}};
    std::uint64_t identity = layout::identity_map_page.raw();
    TRY_VOID(checked_ioctl(vm->fd(), KVM_SET_IDENTITY_MAP_ADDR, &identity, "KVM_SET_IDENTITY_MAP_ADDR"));
    TRY_VOID(checked_ioctl(vm->fd(), KVM_SET_TSS_ADDR, layout::tss_pages.raw(), "KVM_SET_TSS_ADDR"));
    // RAM before the interrupt chips: once those exist, a slot update may wait for a grace period of several ms.
    TRY_VOID(vm->map_ram(memory));
    TRY_VOID(checked_ioctl(vm->fd(), KVM_CREATE_IRQCHIP, std::uint64_t{0}, "KVM_CREATE_IRQCHIP"));
    vm->run_size_ = static_cast<std::size_t>(
        TRY(checked_ioctl(kvm.fd(), KVM_GET_VCPU_MMAP_SIZE, std::uint64_t{0}, "KVM_GET_VCPU_MMAP_SIZE")));
    return vm;
}

Result<Registration> Vm::map(Range<Gpa> range, std::span<std::byte> host, bool read_only, const char* log_name) {
    std::size_t slot = 0;
    {
        std::lock_guard lock{slots_mutex_};
        slot = static_cast<std::size_t>(std::find(slots_used_.begin(), slots_used_.end(), false) - slots_used_.begin());
        if (slot == slots_used_.size())
            slots_used_.push_back(false);
        slots_used_[slot] = true;
    }
    kvm_userspace_memory_region region{};
    region.slot = static_cast<std::uint32_t>(slot);
    region.flags = read_only ? KVM_MEM_READONLY : 0;
    region.guest_phys_addr = range.start().raw();
    region.memory_size = range.size();
    region.userspace_addr = reinterpret_cast<std::uint64_t>(host.data()); // NOLINT: the kernel takes an integer
    if (auto set = checked_ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION"); !set) {
        std::lock_guard lock{slots_mutex_};
        slots_used_[slot] = false;
        Error error = set.error();
        error.what = format("mapping %s at %#llx into the guest: %s", log_name, hex(range.start()), error.what.c_str());
        return std::unexpected(std::move(error));
    }
    return Registration{[this, region]() mutable {
        region.memory_size = 0;
        if (auto removed = checked_ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
            !removed)
            log::write(log::Level::error, "removing memory slot %u: %s", region.slot,
                       removed.error().message().c_str());
        std::lock_guard lock{slots_mutex_};
        slots_used_[region.slot] = false;
    }};
}

Result<void> Vm::map_ram(const GuestMemory& memory) {
    // KVM makes the tables of a whole slot in one call, and a process cannot end in it: for 4 TiB that takes seconds.
    static constexpr std::uint64_t largest = 128 * GiB;
    for (const RamRegion& region : memory.regions())
        for (std::uint64_t done = 0; done < region.range.size();) {
            kvm_userspace_memory_region slot{};
            slot.slot = static_cast<std::uint32_t>(slots_used_.size());
            slot.guest_phys_addr = region.range.start().raw() + done;
            slot.memory_size = std::min(region.range.size() - done, largest);
            slot.userspace_addr = reinterpret_cast<std::uint64_t>(region.host.data()) + done; // NOLINT
            slot.flags = memory.dirty().tracked() ? KVM_MEM_LOG_DIRTY_PAGES : 0;
            TRY_VOID(set_ram(slot));
            ram_.push_back(slot);
            slots_used_.push_back(true);
            done += slot.memory_size;
        }
    return {};
}

Result<void> Vm::set_ram(kvm_userspace_memory_region slot) {
    TRY_VOID(checked_ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION"));
    return {};
}

Result<void> Vm::log_writes(bool on) {
    for (auto& slot : ram_) {
        slot.flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0;
        TRY_VOID(set_ram(slot));
    }
    return {};
}

Result<void> Vm::collect_writes(DirtyPages& pages) {
    std::vector<std::uint64_t> bits;
    std::size_t first = 0; // word of the slot: slots begin where a word does, for layout's RAM is in units of 2 MiB
    for (const auto& slot : ram_) {
        const auto words = (slot.memory_size / page_size + DirtyPages::word_pages - 1) / DirtyPages::word_pages;
        bits.assign(words, 0);
        kvm_dirty_log log{};
        log.slot = slot.slot;
        log.dirty_bitmap = bits.data();
        TRY_VOID(checked_ioctl(fd(), KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG"));
        for (std::size_t i = 0; i < words; ++i)
            pages.add_word(first + i, bits[i]);
        first += words;
    }
    return {};
}

Result<std::unique_ptr<Vcpu>> Vm::create_vcpu(unsigned id) {
    UniqueFd fd{TRY(checked_ioctl(fd_.get(), KVM_CREATE_VCPU, std::uint64_t{id}, "KVM_CREATE_VCPU"))};
    auto run = TRY(Mapping::create(run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    // Asked of the VM: the answer depends on what the process was permitted.
    const int xsave =
        checked_ioctl(fd_.get(), KVM_CHECK_EXTENSION, std::uint64_t{KVM_CAP_XSAVE2}, "KVM_CAP_XSAVE2").value_or(0);
    return std::make_unique<Vcpu>(id, std::move(fd), std::move(run), static_cast<std::size_t>(std::max(xsave, 0)));
}

Result<void> Vm::report_emulation_failures() {
    kvm_enable_cap cap{};
    cap.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE;
    cap.args[0] = 1;
    TRY_VOID(checked_ioctl(fd(), KVM_ENABLE_CAP, &cap, "KVM_CAP_EXIT_ON_EMULATION_FAILURE"));
    return {};
}

Result<void> Vm::trap_msr(std::uint32_t index) {
    kvm_enable_cap cap{};
    cap.cap = KVM_CAP_X86_USER_SPACE_MSR;
    cap.args[0] = KVM_MSR_EXIT_REASON_FILTER;
    TRY_VOID(checked_ioctl(fd(), KVM_ENABLE_CAP, &cap, "KVM_CAP_X86_USER_SPACE_MSR"));
    std::uint8_t denied = 0; // a bit that is set allows the access
    kvm_msr_filter filter{};
    filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
    filter.ranges[0] = {KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 1, index, &denied};
    TRY_VOID(checked_ioctl(fd(), KVM_X86_SET_MSR_FILTER, &filter, "KVM_X86_SET_MSR_FILTER"));
    return {};
}

Result<std::unique_ptr<IrqLine>> Vm::line(unsigned gsi, TriggerMode mode) { return router_->line(gsi, mode); }
Result<std::unique_ptr<MsiVector>> Vm::msi() { return router_->msi(); }

Result<Registration> Vm::add(Gpa address, unsigned size, std::optional<std::uint64_t> match, const EventFd& event) {
    kvm_ioeventfd doorbell{};
    doorbell.addr = address.raw();
    doorbell.len = size;
    doorbell.fd = event.fd();
    if (match) {
        doorbell.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
        doorbell.datamatch = *match;
    }
    TRY_VOID(checked_ioctl(fd(), KVM_IOEVENTFD, &doorbell, "KVM_IOEVENTFD"));
    return Registration{[this, doorbell]() mutable {
        doorbell.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
        if (auto removed = checked_ioctl(fd(), KVM_IOEVENTFD, &doorbell, "KVM_IOEVENTFD"); !removed)
            log::write(log::Level::warning, "removing a doorbell: %s", removed.error().message().c_str());
    }};
}

Result<std::uint64_t> Vm::clock() const {
    kvm_clock_data data{};
    TRY_VOID(checked_ioctl(fd_.get(), KVM_GET_CLOCK, &data, "KVM_GET_CLOCK"));
    return data.clock;
}

Result<void> Vm::set_clock(std::uint64_t nanoseconds) {
    kvm_clock_data data{};
    data.clock = nanoseconds;
    TRY_VOID(checked_ioctl(fd_.get(), KVM_SET_CLOCK, &data, "KVM_SET_CLOCK"));
    return {};
}

Result<Registration> Vm::add_vfio_file(int file) {
    if (!vfio_) {
        kvm_create_device device{};
        device.type = KVM_DEV_TYPE_VFIO;
        TRY_VOID(checked_ioctl(fd(), KVM_CREATE_DEVICE, &device, "KVM_CREATE_DEVICE for VFIO"));
        vfio_.reset(static_cast<int>(device.fd));
    }
    // KVM identifies open files, not descriptors, so a duplicate serves: callers may close theirs in any order.
    UniqueFd own{::fcntl(file, F_DUPFD_CLOEXEC, 0)};
    if (!own)
        return fail_errno(Errc::host_error, "duplicating a VFIO file");
    const auto change = [vfio = vfio_.get()](std::uint64_t what, int number) {
        std::int32_t value = number;
        kvm_device_attr attribute{};
        attribute.group = KVM_DEV_VFIO_GROUP; // since Linux 6.6 KVM_DEV_VFIO_FILE: device files, too
        attribute.attr = what;
        attribute.addr = reinterpret_cast<std::uint64_t>(&value); // NOLINT: the kernel takes an integer
        return checked_ioctl(vfio, KVM_SET_DEVICE_ATTR, &attribute, "KVM_SET_DEVICE_ATTR for VFIO");
    };
    TRY_VOID(change(KVM_DEV_VFIO_GROUP_ADD, own.get()));
    return Registration{[change, own = std::move(own)] {
        if (auto removed = change(KVM_DEV_VFIO_GROUP_DEL, own.get()); !removed)
            log::write(log::Level::warning, "KVM keeps a VFIO file: %s", removed.error().message().c_str());
    }};
}

} // namespace inox
