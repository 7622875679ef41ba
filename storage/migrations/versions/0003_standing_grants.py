"""Standing grants."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('standing_grant',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('zone', sa.String(), nullable=False),
    sa.Column('tool', sa.String(), nullable=False),
    sa.Column('terms', sa.JSON(), nullable=False),
    sa.Column('seal', sa.Text(), nullable=False),
    sa.Column('at_most', sa.Integer(), nullable=False),
    sa.Column('used', sa.Integer(), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('revoked_by', sa.Text(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_standing_grant'))
    )
    op.create_index(op.f('ix_standing_grant_zone'), 'standing_grant', ['zone'], unique=False)
