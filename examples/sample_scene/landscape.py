# SPDX-License-Identifier: Apache-2.0
"""The still part of the sample scene: meadow, path, hills, mountains, trees, flowers, a village."""

import math
import random

import bmesh
import bpy
from mathutils import Matrix, Vector, noise

from . import materials, shapes

EDGE_M = 89.0  # the ground ends behind the sky dome
PATH_HALF_WIDTH_M = 0.34


def between(low: float, high: float, value: float) -> float:
    """0 below `low`, 1 above `high`, smooth in between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def ground_height(x: float, y: float) -> float:
    """Height of the ground: a bank near the camera, a flat meadow, hills from 18 m, mountains from 50 m."""
    far = math.hypot(x, y)
    bank = 0.95 * between(4.3, 2.2, y) * between(0.35, 1.7, abs(x + 0.15)) * between(9.0, 5.0, abs(x))
    meadow = 0.10 * noise.noise(Vector((x * 0.5, y * 0.5, 1.7))) * between(8.0, 11.0, y)
    rolling = between(17, 48, far) * (3.2 + 3.4 * noise.noise(Vector((x * 0.045, y * 0.06, 4.2))))
    crest = noise.ridged_multi_fractal(Vector((x * 0.022 + 3.1, y * 0.022, 0.4)), 0.9, 2.1, 5, 0.9, 2.0)
    return bank + meadow + max(rolling, 0.0) + between(46, 82, far) * 8.5 * crest


def path_x(y: float) -> float:
    """Where the footpath from the camera to the mill runs."""
    return 0.75 + 1.15 * math.sin(0.38 * (y - 3.0))


def ground_material() -> bpy.types.Material:
    """Grass near by, a trodden path, fields on the hills, rock and snow above."""
    material, nodes, here = materials.material_nodes("ground")
    parts = nodes.new("ShaderNodeSeparateXYZ", {0: here})
    x, y, z = parts.outputs

    def math_node(operation: str, *values: object) -> bpy.types.NodeSocket:
        return nodes.new("ShaderNodeMath", dict(enumerate(values)), operation=operation).outputs[0]

    def ramp01(value: bpy.types.NodeSocket, low: float, high: float) -> bpy.types.NodeSocket:
        return nodes.new("ShaderNodeMapRange", {"Value": value, "From Min": low, "From Max": high}).outputs[0]

    blades = nodes.noise(here, 9.0, detail=10.0, rough=0.78)
    patches = nodes.noise(here, 0.55, detail=4.0)
    lush = nodes.ramp(blades, ((0.34, (0.045, 0.080, 0.022)), (0.5, (0.135, 0.205, 0.050)), (0.66, (0.30, 0.36, 0.11))))
    dry = nodes.ramp(blades, ((0.34, (0.11, 0.10, 0.035)), (0.5, (0.29, 0.26, 0.085)), (0.66, (0.52, 0.46, 0.20))))
    grass = nodes.mix(ramp01(patches, 0.42, 0.62), lush, dry)

    cells = nodes.new("ShaderNodeTexVoronoi", {"Vector": here, "Scale": 0.10, "Randomness": 0.9})
    crop = nodes.new("ShaderNodeSeparateColor", {0: cells.outputs["Color"]}).outputs[0]
    fields = nodes.ramp(
        crop,
        (
            (0.0, (0.22, 0.33, 0.06)),
            (0.22, (0.52, 0.46, 0.13)),
            (0.42, (0.11, 0.21, 0.04)),
            (0.58, (0.62, 0.55, 0.20)),
            (0.74, (0.30, 0.38, 0.08)),
            (0.88, (0.33, 0.22, 0.10)),
        ),
        steps=True,
    )
    fields = nodes.mix(0.6, fields, nodes.ramp(blades, ((0.3, (0.45,) * 3), (0.7, (1.3,) * 3))), "MULTIPLY")
    green = nodes.mix(ramp01(y, 19.0, 24.0), grass, fields)

    bend = math_node("SINE", math_node("MULTIPLY", math_node("SUBTRACT", y, 3.0), 0.38))
    centre = math_node("MULTIPLY_ADD", bend, 1.15, 0.75)
    aside = math_node("ABSOLUTE", math_node("SUBTRACT", x, centre))
    ragged = math_node("MULTIPLY_ADD", nodes.noise(here, 5.0), 0.55, math_node("SUBTRACT", aside, 0.27))
    earth = nodes.ramp(blades, ((0.35, (0.24, 0.16, 0.085)), (0.65, (0.56, 0.43, 0.27))))
    trodden = math_node(
        "MULTIPLY", ramp01(ragged, PATH_HALF_WIDTH_M + 0.06, PATH_HALF_WIDTH_M - 0.06), ramp01(y, 13.2, 12.4)
    )
    meadow = nodes.mix(trodden, green, earth)

    stone = nodes.ramp(nodes.noise(here, 0.8, 9.0, 0.7), ((0.35, (0.13, 0.13, 0.15)), (0.65, (0.42, 0.40, 0.40))))
    wild = math_node("MULTIPLY_ADD", nodes.noise(here, 0.18, 6.0), 9.0, math_node("SUBTRACT", z, 4.5))
    rock = nodes.mix(ramp01(wild, 7.5, 9.5), meadow, stone)
    colour = nodes.mix(ramp01(wild, 13.5, 14.6), rock, (0.88, 0.91, 0.96))
    nodes.finish(colour, roughness=1.0, specular=0.05, bump=blades, bump_m=0.05)
    return material


def add_ground() -> None:
    """The height field, fine near the camera and coarse far away."""
    halves = [EDGE_M * ((i / 110) ** 1.9) for i in range(111)]
    xs = [-x for x in reversed(halves[1:])] + halves
    ys = [-14.0 + 16.0 * i / 24 for i in range(24)] + [2.0 + (EDGE_M - 2.0) * ((i / 240) ** 1.7) for i in range(241)]
    shapes.height_field("ground", xs, ys, ground_height, ground_material())


def add_tree(rng: random.Random, name: str, at: tuple[float, float], height: float, leaves, bark) -> None:
    """A round tree: a trunk and a few lumpy crowns."""
    x, y = at
    root = shapes.empty(name, (x, y, ground_height(x, y)))
    shapes.cylinder(name, height * 0.055, height * 0.6, bark, (0, 0, height * 0.3), root, radius_top=height * 0.03)
    crowns = [(0.0, 0.0, 0.72, 0.27)]
    crowns += [(0.17 * math.cos(a), 0.17 * math.sin(a), rng.uniform(0.5, 0.66), 0.2) for a in (0.4, 1.7, 2.9, 4.0, 5.2)]
    for i, (dx, dy, dz, r) in enumerate(crowns):
        where = (dx * height, dy * height, dz * height)
        shapes.ball(name, r * height, leaves[i % len(leaves)], where, root, 0.88, lumps=0.55, seed=rng.randrange(99))


def add_trees() -> None:
    """A few big trees in the middle, and woods of firs on the hills."""
    rng = random.Random(11)
    bark = materials.wooden("bark", (0.09, 0.05, 0.03), (0.30, 0.20, 0.12), along="Z")
    green = materials.speckled(
        "leaves", ((0.35, (0.03, 0.075, 0.022)), (0.52, (0.115, 0.205, 0.05)), (0.68, (0.36, 0.44, 0.14))), 13.0, 0.14
    )
    amber = materials.speckled(
        "amber leaves", ((0.35, (0.22, 0.07, 0.01)), (0.52, (0.62, 0.27, 0.03)), (0.68, (0.90, 0.60, 0.12))), 13.0, 0.14
    )
    fir = materials.speckled(
        "needles", ((0.35, (0.012, 0.045, 0.02)), (0.55, (0.05, 0.14, 0.05)), (0.7, (0.14, 0.27, 0.09))), 6.0, 0.1
    )
    add_tree(rng, "oak", (-4.7, 11.6), 4.5, (green, green), bark)
    add_tree(rng, "maple", (-7.2, 15.5), 4.4, (amber, amber), bark)
    add_tree(rng, "lime", (7.6, 17.5), 4.2, (green, green), bark)
    add_tree(rng, "apple tree", (0.2, 21.0), 2.8, (green, amber), bark)
    add_tree(rng, "pear tree", (-9.6, 22.0), 3.4, (green, green), bark)
    add_tree(rng, "beech", (10.5, 23.0), 4.6, (amber, green), bark)

    profile = [(0.0, 0.0), (0.13, 0.0), (0.1, 0.35), (0.62, 0.32), (0.3, 1.05), (0.48, 1.0), (0.2, 1.65), (0.33, 1.6)]
    prototype = shapes.revolved("fir", [*profile, (0.0, 2.5)], fir, (0, 0, -50.0), segments=9)
    for _ in range(1500):
        far = rng.uniform(21, 74)
        side = rng.uniform(-1.05, 1.05) * far
        wood = noise.noise(Vector((side * 0.11, far * 0.11, 9.0)))
        if wood > 0.12 and math.hypot(side, far) < 78:
            size, turn = rng.uniform(0.7, 1.35), rng.uniform(0, 6.28)
            shapes.copies_of(prototype, "fir", (side, far, ground_height(side, far) - 0.1), size, turn)


def add_flowers() -> None:
    """Poppies, daisies and tufts of grass on the near bank and along the meadow; stones beside the path."""
    rng = random.Random(5)
    stem = materials.painted("stem", (0.10, 0.24, 0.04), roughness=0.8)
    petals = [
        materials.painted(name, colour, roughness=0.6, scale=30.0)
        for name, colour in (
            ("poppy", (0.85, 0.045, 0.02)),
            ("daisy", (0.90, 0.86, 0.74)),
            ("cornflower", (0.10, 0.16, 0.75)),
        )
    ]
    grass = materials.speckled("tuft", ((0.3, (0.05, 0.13, 0.02)), (0.7, (0.34, 0.47, 0.09))), 12.0, 0.0)
    rock = materials.speckled(
        "rock", ((0.3, (0.12, 0.12, 0.13)), (0.5, (0.36, 0.34, 0.32)), (0.7, (0.6, 0.57, 0.5))), 6.0, 0.05
    )

    bloom = [
        shapes.ball("bloom", 0.055, petal, (0, 0, -50.0), squash=0.55, lumps=0.5, subdivisions=2) for petal in petals
    ]
    stalk = shapes.cylinder("stalk", 0.008, 0.3, stem, (0, 0, -50.0), segments=6)
    tuft = grass_tuft(rng, grass)
    for i in range(420):
        y = 2.3 + 4.6 * rng.random() ** 1.3 if i < 190 else rng.uniform(8.2, 17.0)
        x = rng.uniform(-0.75, 0.75) * (y + 0.6)
        if abs(x - path_x(y)) < 0.75 or (y < 4.4 and abs(x) < 0.62):
            continue
        z, size = ground_height(x, y), rng.uniform(0.75, 1.25)
        kind = rng.randrange(5)
        if kind < 3 and noise.noise(Vector((x * 0.6, y * 0.6, kind * 5.0))) > -0.12:
            shapes.copies_of(stalk, "stalk", (x, y, z + 0.12), 1.0, 0.0)
            shapes.copies_of(bloom[kind], "bloom", (x, y, z + 0.28), size, rng.uniform(0, 6))
        else:
            shapes.copies_of(tuft, "tuft", (x, y, z - 0.01), size, rng.uniform(0, 6))
    for i, (dx, y, radius) in enumerate(
        ((0.75, 4.6, 0.17), (0.98, 4.8, 0.10), (-0.7, 8.6, 0.2), (0.72, 9.8, 0.16), (-0.75, 11.2, 0.15))
    ):
        x = path_x(y) + dx
        shapes.ball("stone", radius, rock, (x, y, ground_height(x, y) + radius * 0.3), squash=0.7, lumps=0.5, seed=i)


def grass_tuft(rng: random.Random, material: bpy.types.Material) -> bpy.types.Object:
    """A handful of blades, bent outwards."""
    bm = bmesh.new()
    for i in range(11):
        turn = Matrix.Rotation(i * 2.4 + rng.uniform(-0.3, 0.3), 4, "Z")
        high, lean, wide = rng.uniform(0.14, 0.26), rng.uniform(0.03, 0.13), 0.014
        outline = ((0.01, -wide, 0), (0.01, wide, 0), (lean * 0.4, wide, high * 0.6), (lean * 0.4, -wide, high * 0.6))
        root = [bm.verts.new(turn @ Vector(p)) for p in outline]
        tip = bm.verts.new(turn @ Vector((lean, 0, high)))
        bm.faces.new(root)
        bm.faces.new((root[3], root[2], tip))
    return shapes.object_from_bmesh("tuft", bm, material, (0, 0, -50.0))


def add_village() -> None:
    """Cottages and a church at the foot of the hills."""
    rng = random.Random(3)
    wall = materials.speckled("plaster", ((0.35, (0.62, 0.55, 0.44)), (0.65, (0.88, 0.83, 0.72))), 1.5, 0.01)
    tiles = materials.brickwork("far tiles", (0.55, 0.13, 0.06), (0.40, 0.09, 0.05), (0.18, 0.06, 0.04), 0.4)
    slate = materials.painted("slate", (0.10, 0.13, 0.20), roughness=0.6)
    window = materials.painted("far window", (0.03, 0.04, 0.06), roughness=0.2)
    for x, y in (
        (-12.5, 33.0),
        (-8.6, 35.5),
        (-14.5, 38.0),
        (-5.2, 33.5),
        (-10.5, 40.0),
        (-3.0, 38.5),
        (15.5, 36.0),
        (19.5, 39.0),
    ):
        root = shapes.empty("cottage", (x, y, ground_height(x, y) - 0.4))
        root.rotation_euler = (0, 0, rng.uniform(-0.5, 0.5))
        high = rng.uniform(1.9, 2.6)
        shapes.box("walls", (3.2, 2.4, high), wall, (0, 0, high / 2), root, bevel=0.0)
        shapes.gable_roof("roof", (3.6, 2.9, 1.5), tiles, (0, 0, high), root)
        for side in (-0.85, 0.0, 0.85):
            shapes.box("window", (0.4, 0.1, 0.55), window, (side, -1.2, high * 0.55), root, bevel=0.0)
    church = shapes.empty("church", (-7.0, 42.0, ground_height(-7.0, 42.0) - 0.3))
    shapes.box("nave", (5.0, 2.8, 3.0), wall, (1.6, 0, 1.5), church, bevel=0.0)
    shapes.gable_roof("nave roof", (5.2, 3.2, 1.8), tiles, (1.6, 0, 3.0), church)
    shapes.box("tower", (1.9, 1.9, 5.6), wall, (-1.6, 0, 2.8), church, bevel=0.0)
    shapes.cylinder("spire", 1.4, 3.6, slate, (-1.6, 0, 7.4), church, radius_top=0.0, segments=4)
