// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/root_bus.hpp"

#include <algorithm>
#include <utility>

#include "devices/state_fields.hpp"

namespace inox::devices::pci {
namespace {

/// A generic PCIe host bridge, to which guests apply no quirks.
class HostBridge final : public Function {
public:
    HostBridge() : Function{{.vendor = 0x1b36, .device = 0x0008, .class_code = 0x060000}, ConfigSpace::conventional} {}
    [[nodiscard]] std::string_view name() const override { return "host-bridge"; }
    void state(State& /*state*/) override {} // it is all configuration space
};

void fill_ones(std::span<std::byte> data) { std::ranges::fill(data, std::byte{0xff}); }

/// What is left of a device that was torn out.
class Remains final : public Function {
public:
    explicit Remains(const ConfigSpace& old) : Function{{}} {
        for (unsigned index = 0; index < bar_count; ++index)
            if (const auto& bar = old.bar(index)) {
                (void)config().add_bar(index, *bar); // it fitted in the old function
                config().set_bar_address(index, old.bar_address(index));
            }
        config().set(reg::command, old.command());
    }
    [[nodiscard]] std::string_view name() const override { return "torn-out device"; }
    void config_read(unsigned, std::span<std::byte> data) noexcept override { fill_ones(data); }
    void config_write(unsigned, std::span<const std::byte>) noexcept override {}
    void bar_read(unsigned, std::uint64_t, std::span<std::byte> data) noexcept override {
        std::ranges::fill(data, std::byte{0});
    }
    void state(State& /*state*/) override {}
    [[nodiscard]] std::optional<std::string> unsaveable() const override {
        return "the guest has not ejected yet what is left of a device that was removed by force";
    }
};

template <class A> Result<Registration> add_to(Bus<A>& bus, Range<A> range, std::shared_ptr<BusDevice> device) {
    TRY_VOID(bus.add(range, std::move(device)));
    return Registration{[&bus, range] { bus.remove(range); }};
}

} // namespace

/// Configuration mechanism #1 (PCI 3.0, 3.2.2.3.2) and, inside it, the chipset's reset control register at 0xcf9.
class RootBus::ConfigPorts final : public BusDevice {
public:
    ConfigPorts(RootBus& bus, GuestEvents& events) : bus_{bus}, events_{events} {}

    [[nodiscard]] std::string_view name() const override { return "pci-config-ports"; }

    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override {
        if (offset == address_port && data.size() == 4)
            store_le(data, address_.load(std::memory_order_relaxed));
        else if (offset == reset_port && data.size() == 1)
            data[0] = std::byte{0};
        else if (const auto target = decode(offset))
            bus_.config_read(target->index, target->offset, data);
        else
            fill_ones(data);
    }

    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override {
        if (offset == address_port && data.size() == 4)
            address_.store(load_le<std::uint32_t>(data), std::memory_order_relaxed);
        else if (offset == reset_port && data.size() == 1)
            reset_control(std::to_integer<std::uint8_t>(data[0]));
        else if (const auto target = decode(offset))
            bus_.config_write(target->index, target->offset, data);
    }

    void state(State& state) override { atomic_number(state, "config_address", address_); }

private:
    static constexpr std::uint64_t address_port = 0;
    static constexpr std::uint64_t reset_port = 1;
    static constexpr std::uint64_t data_port = 4;
    static constexpr std::uint32_t address_enable = 1U << 31;
    struct Target {
        unsigned index;
        unsigned offset;
    };

    void reset_control(std::uint8_t value) noexcept {
        constexpr std::uint8_t reset_cpu = 0x04;
        if (value & reset_cpu)
            events_.reset();
    }

    /// Bits 27:24 select extended registers as on AMD's processors; on others they are reserved and 0.
    [[nodiscard]] std::optional<Target> decode(std::uint64_t port) const {
        const auto address = address_.load(std::memory_order_relaxed);
        const unsigned bus = address >> 16 & 0xff;
        if (port < data_port || !(address & address_enable) || bus != 0)
            return std::nullopt;
        const unsigned dword = (address >> 16 & 0xf00) | (address & 0xfc);
        return Target{address >> 8 & 0xff, dword + static_cast<unsigned>(port - data_port)};
    }

    RootBus& bus_;
    GuestEvents& events_;
    std::atomic<std::uint32_t> address_{};
};

/// Enhanced configuration access (PCIe 4.0, 7.2.2): 4 KiB for each function of bus 0.
class RootBus::Ecam final : public BusDevice {
public:
    explicit Ecam(RootBus& bus) : bus_{bus} {}

    [[nodiscard]] std::string_view name() const override { return "pci-ecam"; }

    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override {
        if (on_bus_0(offset))
            bus_.config_read(index(offset), within(offset), data);
        else
            fill_ones(data);
    }

    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override {
        if (on_bus_0(offset))
            bus_.config_write(index(offset), within(offset), data);
    }

    void state(State& /*state*/) override {} // it remembers nothing

private:
    static bool on_bus_0(std::uint64_t offset) { return offset >> 20 == 0; }
    static unsigned index(std::uint64_t offset) { return static_cast<unsigned>(offset >> 12 & 0xff); }
    static unsigned within(std::uint64_t offset) { return static_cast<unsigned>(offset & 0xfff); }

    RootBus& bus_;
};

Result<std::unique_ptr<RootBus>> RootBus::create(MemoryBus& memory, PortBus& ports, GuestEvents& events,
                                                 const Windows& windows) {
    std::unique_ptr<RootBus> bus{new RootBus{memory, ports, windows}};
    TRY_VOID(bus->register_on(memory, ports, events));
    TRY_VOID(bus->add(std::make_shared<HostBridge>(), Address{0, 0}));
    return bus;
}

Result<void> RootBus::register_on(MemoryBus& memory, PortBus& ports, GuestEvents& events) {
    config_ports_ = std::make_shared<ConfigPorts>(*this, events);
    ports_ = TRY(add_to(ports, layout::port_pci_config, config_ports_));
    ecam_ = TRY(add_to(memory, layout::ecam, std::make_shared<Ecam>(*this)));
    return {};
}

RootBus::~RootBus() {
    const std::lock_guard lock{mutex_};
    for (auto& attached : functions_) {
        if (!attached)
            continue;
        mapper_.unmap_all(*attached);
        attached->function->on_removed();
    }
}

Result<Address> RootBus::add(std::shared_ptr<Function> function, std::optional<Address> where) {
    const std::lock_guard lock{mutex_};
    const Address address = TRY(choose(where));
    auto& config = function->config();
    TRY_VOID(mapper_.place(*function, functions_));
    if (const auto pin = config.interrupt_pin())
        config.set(reg::interrupt_line, static_cast<std::uint8_t>(intx_gsi(address.slot, pin)));
    TRY_VOID(function->on_added(address));
    auto& attached = functions_[address.index()];
    attached = std::make_unique<Attached>();
    attached->function = std::move(function);
    attached->address = address;
    mark_multi_function(address.slot);
    sync(*attached);
    return address;
}

Result<void> RootBus::remove(Address address) {
    std::unique_ptr<Attached> gone; // destroyed after the lock is released
    const std::lock_guard lock{mutex_};
    if (address == Address{} || !present(address))
        return fail(Errc::not_found, "no PCI device to remove at " + address.text());
    gone = std::move(functions_[address.index()]);
    mapper_.unmap_all(*gone);
    mark_multi_function(address.slot);
    retry_refused();
    gone->function->on_removed();
    return {};
}

Result<void> RootBus::tear_out(Address address) {
    auto left = std::make_unique<Attached>();
    left->address = address;
    std::unique_ptr<Attached> gone; // destroyed after the lock is released
    const std::lock_guard lock{mutex_};
    if (address == Address{} || !present(address))
        return fail(Errc::not_found, "no PCI device to remove at " + address.text());
    auto& place = functions_[address.index()];
    left->function = std::make_shared<Remains>(place->function->config());
    mapper_.unmap_all(*place);
    gone = std::exchange(place, std::move(left));
    sync(*place);
    gone->function->on_removed();
    return {};
}

bool RootBus::present(Address address) const {
    return address.slot < slots && address.function < functions_per_slot && functions_[address.index()];
}

std::shared_ptr<Function> RootBus::find(Address address) const {
    const std::lock_guard lock{mutex_};
    if (!present(address))
        return nullptr;
    return functions_[address.index()]->function;
}

void RootBus::for_each(const std::function<void(Address, Function&)>& visit) const {
    const std::lock_guard lock{mutex_};
    for (const auto& attached : functions_)
        if (attached)
            visit(attached->address, *attached->function);
}

void RootBus::config_read(unsigned index, unsigned offset, std::span<std::byte> data) noexcept {
    const std::lock_guard lock{mutex_};
    if (index >= function_count || !functions_[index] || offset + data.size() > ConfigSpace::express)
        fill_ones(data);
    else
        functions_[index]->function->config_read(offset, data);
}

void RootBus::config_write(unsigned index, unsigned offset, std::span<const std::byte> data) noexcept {
    const std::lock_guard lock{mutex_};
    if (index >= function_count || !functions_[index] || offset + data.size() > ConfigSpace::express)
        return;
    functions_[index]->function->config_write(offset, data);
    sync(*functions_[index]);
}

void RootBus::state(State& state) {
    const std::lock_guard lock{mutex_};
    state.version(1);
    config_ports_->state(state);
    check_functions(state);
    // A BAR may go where another's was before, so all of them leave first.
    for (auto& attached : functions_)
        if (attached && state.restores() && state.ok())
            mapper_.unmap_all(*attached);
    for (auto& attached : functions_)
        if (attached)
            state.part(attached->address.text().c_str(), [&](State& part) {
                part.part("config", [&](State& config) { attached->function->config().state(config); });
                if (part.ok())
                    attached->function->state(part);
            });
    for (auto& attached : functions_)
        if (attached && state.restores() && state.ok())
            sync(*attached);
}

/// Whether the snapshot has the functions that are here.
void RootBus::check_functions(State& state) const {
    struct Present {
        std::uint8_t index{};
        std::string name{};
    };
    constexpr std::size_t longest_name = 256;
    std::vector<Present> present;
    for (unsigned index = 0; index < function_count; ++index)
        if (functions_[index])
            present.push_back({static_cast<std::uint8_t>(index),
                               std::string{functions_[index]->function->name()}.substr(0, longest_name)});
    std::vector<Present> wanted = present;
    state.list("functions", wanted, function_count, [](State& one, Present& function) {
        one.number("index", function.index);
        one.text("name", function.name, longest_name);
    });
    for (std::size_t i = 0; i < present.size(); ++i) {
        const Present& own = present[i];
        const bool same = i < wanted.size() && wanted[i].index == own.index && wanted[i].name == own.name;
        state.check(same, format("it does not have '%s' at %s, which this machine has", own.name.c_str(),
                                 functions_[own.index]->address.text().c_str())
                              .c_str());
    }
    state.check(wanted.size() == present.size(), "it has a PCI device that this machine does not have");
}

std::vector<std::shared_ptr<Function>> RootBus::functions() const {
    const std::lock_guard lock{mutex_};
    std::vector<std::shared_ptr<Function>> all;
    for (const auto& attached : functions_)
        if (attached)
            all.push_back(attached->function);
    return all;
}

std::optional<std::string> RootBus::unsaveable() const {
    for (const auto& function : functions())
        if (auto reason = function->unsaveable())
            return reason;
    return std::nullopt;
}

bool RootBus::drain() noexcept {
    bool done = true;
    for (const auto& function : functions())
        done = function->drain() && done;
    return done;
}

void RootBus::resume() noexcept {
    for (const auto& function : functions())
        function->resume();
}

Result<Address> RootBus::choose(std::optional<Address> where) const {
    if (!where) {
        for (std::uint8_t slot = 0; slot < slots; ++slot)
            if (slot_empty(slot))
                return Address{slot, 0};
        return fail(Errc::no_resource, format("all %u PCI slots are taken", slots));
    }
    if (where->slot >= slots || where->function >= functions_per_slot)
        return fail(Errc::not_found, format("there is no PCI slot %u function %u", where->slot, where->function));
    if (const auto& other = functions_[where->index()])
        return fail(Errc::already_exists, format("PCI address %s is taken by %s", where->text().c_str(),
                                                 std::string{other->function->name()}.c_str()));
    return *where;
}

bool RootBus::slot_empty(unsigned slot) const {
    return std::ranges::none_of(std::span{functions_}.subspan(slot * functions_per_slot, functions_per_slot),
                                [](const auto& attached) { return attached != nullptr; });
}

/// Function 0's bit says whether a scan must look at the other functions; all functions of a slot have the same bit.
void RootBus::mark_multi_function(unsigned slot) {
    const auto in_slot = std::span{functions_}.subspan(slot * functions_per_slot, functions_per_slot);
    const auto count = std::ranges::count_if(in_slot, [](const auto& attached) { return attached != nullptr; });
    for (const auto& attached : in_slot)
        if (attached)
            attached->function->config().set_multi_function(count > 1);
}

void RootBus::sync(Attached& attached) noexcept {
    if (mapper_.sync(attached))
        retry_refused();
}

void RootBus::retry_refused() noexcept {
    for (auto& attached : functions_)
        if (attached)
            mapper_.retry(*attached);
}

} // namespace inox::devices::pci
