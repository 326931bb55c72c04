package board_test

import (
	"fmt"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpiotest"

	"kith/edge/board"
)

// A door with a strike on a low-active relay and a contact; on an appliance, OpenGPIO finds the
// pins by itself.
func Example() {
	relay := &gpiotest.Pin{N: "GPIO17"}
	contact := &gpiotest.Pin{N: "GPIO27", EdgesChan: make(chan gpio.Level, 1)}
	host := map[string]gpio.PinIO{"GPIO17": relay, "GPIO27": contact}
	var b board.Board
	b, err := board.OpenPins(map[string]board.Pin{
		"front/lock":    {Name: "GPIO17", ActiveLow: true},
		"front/contact": {Name: "GPIO27", Pull: board.PullUp},
	}, func(name string) gpio.PinIO { return host[name] })
	if err != nil {
		fmt.Println(err)
		return
	}
	c := <-b.Inputs()
	fmt.Println(c.Signal, c.Value)
	if err := b.Set("front/lock", 1); err != nil {
		fmt.Println(err)
	}
	fmt.Println("released, the relay's pin is", relay.Read())
	if err := b.Close(); err != nil {
		fmt.Println(err)
	}
	fmt.Println("closed, it is", relay.Read())
	// Output:
	// front/contact 1
	// released, the relay's pin is Low
	// closed, it is High
}
